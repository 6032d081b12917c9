"""Devices of one predictor against the parallel sizes that its arguments name.

vLLM starts tensor x pipeline x data workers, each with a device of its own, and ends with an error
where there are fewer (vllm/config/parallel.py). CUDA gives a process one MIG device, and no other.
"""

import re
from collections.abc import Iterator

from relume.cluster.admission.judge import content, entries, fields
from relume.cluster.admission.kserve import containers_of
from relume.cluster.claims.presets import IMPLICIT_PREFIX, find
from relume.cluster.doctor.graph import Model, Numbered, models
from relume.cluster.findings import Finding, at
from relume.config.nodes import Node

_SIZES = {
    "--tensor-parallel-size": "tensor",
    "-tp": "tensor",
    "--pipeline-parallel-size": "pipeline",
    "-pp": "pipeline",
    "--data-parallel-size": "data",
    "-dp": "data",
}
_WHOLE = re.compile(r"[1-9][0-9]{0,5}")
_PARTITION = re.compile(r"nvidia\.com/mig-.+")


def judge_parallel(documents: Numbered) -> Iterator[tuple[int, Finding]]:
    """What is said of every predictor that asks for devices."""
    for model in models(documents).values():
        for finding in _of_model(model):
            yield model.number, finding


def _of_model(model: Model) -> Iterator[Finding]:
    asked = [(name, node, _count(node)) for name, node in model.devices]
    devices = sum(count for _, _, count in asked)
    for name, node, _ in asked:
        if devices > 1 and _is_partition(name):
            yield at(node, "several-partitions", f"{devices} devices, and {name} is a partition")
    for container in containers_of(model.spec):
        arguments = fields(container).get("args")
        workers = _workers(arguments)
        if (
            arguments is None
            or workers is None
            or not devices
            or "workerSpec" in fields(model.spec)
        ):
            continue
        if workers > devices:
            message = f"the arguments want {workers} devices, and limits ask for {devices}"
            yield at(arguments, "too-few-devices", message)
        elif workers < devices:
            message = f"the arguments use {workers} of the {devices} devices in limits"
            yield at(arguments, "idle-devices", message)


def _workers(arguments: Node | None) -> int | None:
    """How many devices the arguments name; None where they name no size that can be read."""
    sizes: dict[str, str] = {}
    rest = iter([content(one) for one in entries(arguments)])
    for argument in rest:
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if name in _SIZES:
            sizes[_SIZES[name]] = value if equals else next(rest, "")
    workers = 1
    for size in sizes.values():
        if not _WHOLE.fullmatch(size):
            return None
        workers *= int(size)
    return workers if "tensor" in sizes or "pipeline" in sizes else None


def _count(node: Node) -> int:
    text = content(node)
    return int(text) if _WHOLE.fullmatch(text) else 0


def _is_partition(name: str) -> bool:
    preset = find(name.removeprefix(IMPLICIT_PREFIX)) if name.startswith(IMPLICIT_PREFIX) else None
    return _PARTITION.fullmatch(name) is not None or (preset is not None and preset.partition)
