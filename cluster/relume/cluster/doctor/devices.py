"""Devices that a service will not get, or will not use.

A rollout, a burst or a missing class can leave a service without a device. vLLM starts tensor x
pipeline x data workers, each with a device of its own, and ends with an error where there are fewer
(vllm/config/parallel.py). CUDA gives a process one MIG device and no more. The lints of claims and
classes are those of `relume.cluster.claims`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import GPU_RESOURCE_TYPES
from relume.cluster.admission.annotations import autoscaling
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import child, content, entries, fields, number
from relume.cluster.admission.kserve import OLD_FORMATS, containers_of
from relume.cluster.claims.presets import IMPLICIT_PREFIX, MIG_RESOURCE, find
from relume.cluster.doctor.graph import (
    ModelService,
    NumberedDocuments,
    model_formats,
    model_of,
    models,
    named,
)
from relume.cluster.findings import Finding, at
from relume.config.nodes import Node

# Formats of the runtimes that KServe ships, and Relume's.
_SHIPPED_FORMATS = frozenset(
    {*OLD_FORMATS, "mlflow", "tensorrt", "keras", "predictiveserver", "vLLM"}
)
_SIZES = {
    "--tensor-parallel-size": "tensor",
    "-tp": "tensor",
    "--pipeline-parallel-size": "pipeline",
    "-pp": "pipeline",
    "--data-parallel-size": "data",
    "-dp": "data",
}
_WHOLE = re.compile(r"[1-9][0-9]{0,5}")
_KINDS = (
    *("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"),
    "LLMInferenceService",
)


def judge_devices(documents: NumberedDocuments, cluster: Cluster) -> Iterator[tuple[int, Finding]]:
    """What is said of devices, classes, claims and runtimes across documents."""
    classes = {name for _, _, name in named(documents, "DeviceClass")} | cluster.classes
    formats = model_formats(documents) | _SHIPPED_FORMATS
    known = models(documents).values()
    for model in known:
        for finding in (
            *_rollout(model, classes, cluster),
            *_runtime(model, formats),
            *_parallel(model),
        ):
            yield model.number, finding
    for kind in ("ResourceClaim", "ResourceClaimTemplate"):
        for number_, document in named(documents, kind).values():
            for name, node in _claimed(document):
                if name not in classes:
                    yield number_, _no_class(name, node)
    if any(list(model.devices) for model in known) or any(
        content(document.get("kind")) in _KINDS for _, document in documents
    ):
        yield from _lints(documents)


def _rollout(model: ModelService, classes: set[str], cluster: Cluster) -> Iterator[Finding]:
    asked = list(model.devices)
    for name, node in asked:
        implied = name.removeprefix(IMPLICIT_PREFIX)
        if implied != name and implied not in classes:
            yield _no_class(implied, node)
    if not asked:
        return
    name, node = asked[0]
    if model.knative and not _begins_at_zero(model, cluster):
        message = f"a new Revision needs its own {name} while the old one holds {content(node)}"
        yield at(node, "second-device", message)
    most = model.spec.get("maxReplicas")
    if model.kserve and not number(most):
        message = f"each replica takes {content(node)} of {name}, and nothing bounds the replicas"
        path = f"{model.spec.path}.maxReplicas"
        yield at(most or model.spec, "unbounded-scale", message, field=path)
    yield from _image(model, name, node)


def _begins_at_zero(model: ModelService, cluster: Cluster) -> bool:
    """Whether a new Revision is ready without a pod; KServe drops the annotation otherwise."""
    initial = content(autoscaling(model.annotations, "initial-scale"))
    return initial == "0" and cluster.switch("allow-zero-initial-scale")


def _image(model: ModelService, name: str, node: Node) -> Iterator[Finding]:
    """KServe's own runtimes choose their image by the resource's name."""
    chosen = content(child(model_of(model.spec), "runtime"))
    listed = content(model.annotations.get(GPU_RESOURCE_TYPES))
    if name.startswith(IMPLICIT_PREFIX) and chosen.startswith("kserve-") and name not in listed:
        message = f"{chosen} takes its CPU image: {name} is no GPU to KServe"
        yield at(node, "wrong-image", message)


def _runtime(model: ModelService, formats: set[str]) -> Iterator[Finding]:
    table = model_of(model.spec) if model.kserve else None
    node = child(table, "modelFormat", "name")
    if table is None or "runtime" in fields(table):
        return
    if node is None:
        if table is model.spec.get("model"):  # the older ones have their format for a name
            path = f"{table.path}.modelFormat.name"
            message = "without a format no runtime is found"
            yield at(table, "no-runtime", message, "Write modelFormat.name.", field=path)
    elif content(node) not in formats:
        near = next((f for f in sorted(formats) if f.lower() == content(node).lower()), "")
        hint = f"; did you mean {near}?" if near else ""
        yield at(node, "no-runtime", f"no runtime for the format {content(node)}{hint}")


def _claimed(document: Node) -> Iterator[tuple[str, Node]]:
    spec = child(document, "spec")
    devices = child(spec, "devices") or child(spec, "spec", "devices")
    for request in entries(fields(devices).get("requests")):
        inside = fields(request)
        for one in (inside.get("exactly"), *entries(inside.get("firstAvailable"))):
            node = fields(one).get("deviceClassName")
            if node is not None:
                yield content(node), node


def _no_class(name: str, node: Node) -> Finding:
    return at(node, "no-device-class", f"the DeviceClass {name} is not among these documents")


def _parallel(model: ModelService) -> Iterator[Finding]:
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
    return MIG_RESOURCE.fullmatch(name) is not None or (preset is not None and preset.partition)


def _lints(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """What is likely a mistake in classes, claims and slices, and in the names in `limits`."""
    # It brings an evaluator of CEL, which takes a tenth of a second to load.
    from relume.cluster.claims.lints import lint_nodes

    numbers = {id(document): number for number, document in documents}
    try:
        findings = lint_nodes([document for _, document in documents])
    except InvalidManifest:  # admission has found it too
        return
    for document, finding in findings:
        number = numbers.get(id(document.node))
        if number is not None:
            fix = f"{finding.fix[:1].upper()}{finding.fix[1:]}."
            yield number, replace(finding, fix=fix, gravity=None)
