"""Devices that a service will not get, or will not use.

A rollout, a burst or a missing class can leave a service without a device. vLLM starts tensor x
pipeline x data workers, each with a device of its own, and ends with an error where there are fewer
(vllm/config/parallel.py); SGLang does the same by other names (server_args.py). CUDA gives a
process one MIG device and no more. The lints of claims and classes are those of
`relume.cluster.claims`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import GPU_RESOURCE_TYPES
from relume.cluster.admission.annotations import autoscaling
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import child, content, entries, fields, number
from relume.cluster.admission.kserve import OLD_FORMATS, containers_of
from relume.cluster.claims.pods import MANAGED_CLASS
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
from relume.config.arguments import flags_in
from relume.config.model import MODEL_FORMATS
from relume.config.nodes import Node, Table

# Formats of the runtimes that KServe ships, and Relume's.
_SHIPPED_FORMATS = frozenset(
    {*OLD_FORMATS, "mlflow", "tensorrt", "keras", "predictiveserver", "vLLM"}
)
# What each engine calls its parallel sizes; of another one nothing is known.
_VLLM = {
    "--tensor-parallel-size": "tensor",
    "-tp": "tensor",
    "--pipeline-parallel-size": "pipeline",
    "-pp": "pipeline",
    "--data-parallel-size": "data",
    "-dp": "data",
}
_SGLANG = {
    "--tp-size": "tensor",
    "--tp": "tensor",
    "--tensor-parallel-size": "tensor",
    "--pp-size": "pipeline",
    "--pipeline-parallel-size": "pipeline",
    "--dp-size": "data",
    "--dp": "data",
    "--data-parallel-size": "data",
}
# With it SGLang's replicas share the devices of the tensor size (server_args.py).
_SGLANG_WITHIN = "--enable-dp-attention"
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
            *_elsewhere(model),
            *_parallel(model),
        ):
            yield model.number, finding
    for number_, document in named(documents, "LLMInferenceService").values():
        for finding in _llm(document, classes):
            yield number_, finding
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


def _format_of(model: ModelService) -> str:
    """The format of a KServe model, `predictor.triton` included; empty for a container."""
    if not model.kserve:
        return ""
    older = next((name for name in OLD_FORMATS if name in fields(model.spec)), "")
    return content(child(model_of(model.spec), "modelFormat", "name")) or older


def _elsewhere(model: ModelService) -> Iterator[Finding]:
    """What only a cluster runs."""
    name = _format_of(model)
    if name and name not in MODEL_FORMATS:
        ours = " and ".join(MODEL_FORMATS)
        table = model_of(model.spec) or model.spec
        node = child(table, "modelFormat", "name") or table
        message = f"relume up runs {ours}; {name} runs on a cluster alone, with a runtime for it"
        yield at(node, "cluster-only", message)


def _llm(document: Table, classes: set[str]) -> Iterator[Finding]:
    """What is said of an LLMInferenceService beyond its admission."""
    kind = document.get("kind")
    if kind is not None:
        message = (
            "relume up runs no LLMInferenceService; KServe runs it on a cluster, as Deployments"
        )
        yield at(kind, "cluster-only", message)
    asked = child(document, "metadata", "annotations", MANAGED_CLASS)
    if asked is not None and content(asked).strip() not in classes:
        yield _no_class(content(asked).strip(), asked)
    for path in (("template",), ("worker",), ("prefill", "template"), ("prefill", "worker")):
        pod = child(document, "spec", *path)
        for container in entries(pod, "containers"):
            for name, node in fields(child(container, "resources", "limits")).items():
                implied = name.removeprefix(IMPLICIT_PREFIX)
                if implied != name and implied not in classes:
                    yield _no_class(implied, node)


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
    engine = _format_of(model)
    sizes = _SGLANG if engine == "sglang" else _VLLM if engine in ("", *MODEL_FORMATS) else {}
    for container in containers_of(model.spec):
        arguments = fields(container).get("args")
        workers = _workers(arguments, sizes)
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


def _workers(arguments: Node | None, names: Mapping[str, str]) -> int | None:
    """How many devices the arguments name; None where they name no size that can be read."""
    words = [content(one) for one in entries(arguments)]
    sizes = {names[name]: value or "" for name, value in flags_in(words, names) if name in names}
    if _SGLANG_WITHIN in words:
        sizes.pop("data", None)
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
