"""Devices that a rollout, a burst or a missing class leaves a service without."""

from collections.abc import Iterator

from relume.cluster.admission.annotations import autoscaling
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import child, content, entries, fields, number
from relume.cluster.admission.kserve import GPU_TYPES
from relume.cluster.doctor.graph import Model, Numbered, model_formats, model_of, models, named
from relume.cluster.findings import Finding, at
from relume.config.nodes import Node

_IMPLICIT = "deviceclass.resource.kubernetes.io/"
# Formats of the runtimes that KServe ships, and Relume's.
_SHIPPED_FORMATS = frozenset(
    {
        "sklearn",
        "xgboost",
        "lightgbm",
        "pmml",
        "paddle",
        "mlflow",
        "tensorflow",
        "onnx",
        "pytorch",
        "triton",
        "tensorrt",
        "keras",
        "huggingface",
        "predictiveserver",
        "vLLM",
    }
)


def judge_devices(documents: Numbered, cluster: Cluster) -> Iterator[tuple[int, Finding]]:
    """What is said of devices, classes and runtimes across documents."""
    classes = {name for _, _, name in named(documents, "DeviceClass")} | cluster.classes
    formats = model_formats(documents) | _SHIPPED_FORMATS
    for model in models(documents).values():
        for finding in (*_of_model(model, classes, cluster), *_runtime(model, formats)):
            yield model.number, finding
    for kind in ("ResourceClaim", "ResourceClaimTemplate"):
        for number_, document in named(documents, kind).values():
            for name, node in _claimed(document):
                if name not in classes:
                    yield number_, _no_class(name, node)


def _of_model(model: Model, classes: set[str], cluster: Cluster) -> Iterator[Finding]:
    asked = list(model.devices)
    for name, node in asked:
        implied = name.removeprefix(_IMPLICIT)
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


def _begins_at_zero(model: Model, cluster: Cluster) -> bool:
    """Whether a new Revision is ready without a pod; KServe drops the annotation otherwise."""
    initial = content(autoscaling(model.annotations, "initial-scale"))
    return initial == "0" and cluster.switch("allow-zero-initial-scale")


def _image(model: Model, name: str, node: Node) -> Iterator[Finding]:
    """KServe's own runtimes choose their image by the resource's name."""
    chosen = content(child(model_of(model.spec), "runtime"))
    listed = content(model.annotations.get(GPU_TYPES))
    if name.startswith(_IMPLICIT) and chosen.startswith("kserve-") and name not in listed:
        message = f"{chosen} takes its CPU image: {name} is no GPU to KServe"
        yield at(node, "wrong-image", message)


def _runtime(model: Model, formats: set[str]) -> Iterator[Finding]:
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
