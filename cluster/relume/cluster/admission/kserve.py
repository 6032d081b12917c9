"""KServe's kinds, as its webhooks judge them.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go and what it calls.
KServe stops at the first error; here all are gathered.
"""

import re
from collections.abc import Iterator

from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.kserve_canaries import judge_canaries
from relume.cluster.admission.kserve_scaling import AUTOSCALER, judge_replicas, judge_scaling
from relume.cluster.admission.kserve_storage import judge_beside, judge_storage, storage_uri
from relume.cluster.admission.kserve_workers import judge_devices, judge_head, judge_worker
from relume.config.nodes import Node, Table

CONTAINER = "kserve-container"
OLD_FORMATS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_AUTOSCALERS = ("hpa", "external", "keda", "none")
BLOCKED = "PYTHONPATH"
_STORAGE = ("s3://", "hdfs://", "webhdfs://")
_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}


def mode(document: Table) -> str:
    """The deployment mode, by its new name; Knative where none is said."""
    said = content(fields(child(document, "metadata", "annotations")).get(DEPLOYMENT_MODE))
    known = _MODES.get(said, said)
    return known if known in ("Standard", "Knative", "ModelMesh") else "Knative"


def judge_inference_service(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1beta1 InferenceService."""
    name = child(document, "metadata", "name")
    if name is not None and not _NAME.fullmatch(content(name)):
        judge.say(
            name,
            "invalid-name",
            f"invalid value: {content(name)}: an InferenceService name must consist of lower case "
            "letters, digits and '-', start with a letter and end with a letter or digit",
        )
    annotations = fields(child(document, "metadata", "annotations"))
    chosen = annotations.get(AUTOSCALER)
    if chosen is not None and content(chosen) not in _AUTOSCALERS:
        known = ", ".join(_AUTOSCALERS)
        message = f"[{content(chosen)}] is not a supported autoscaler class type: {known}"
        judge.say(chosen, "unsupported-value", message)
    if child(document, "spec", "predictor") is None:
        judge.missing(document.get("spec") or document, "predictor")
    for path in ("predictor", "transformer", "explainer"):
        component = child(document, "spec", path)
        if isinstance(component, Table):
            _judge_component(document, component, path, judge)
    judge_canaries(document, judge)
    predictor, canaries = (child(document, "spec", name) for name in ("predictor", "canary"))
    if entries(canaries) and isinstance(predictor, Table):
        held = any(name in fields(predictor) for name in ("model", *OLD_FORMATS))
        if not held and storage_uri(predictor, None) is None:
            judge.missing(predictor, "model")
    for canary in entries(canaries):
        predictor = fields(canary).get("predictor")
        if isinstance(predictor, Table):
            _judge_implementation(predictor, judge, filled=False)


def containers_of(component: Node) -> Iterator[Node]:
    """Every container that a component writes, the model's included."""
    inside = fields(component)
    for name in ("model", *OLD_FORMATS):
        if name in inside:
            yield inside[name]
    for pod in (component, *([inside["workerSpec"]] if "workerSpec" in inside else [])):
        for name in ("containers", "initContainers"):
            yield from entries(fields(pod).get(name))


def _judge_component(document: Table, component: Table, kind: str, judge: Judge) -> None:
    model: Node | None = None
    if kind == "predictor":
        mesh = (
            content(fields(child(document, "metadata", "annotations")).get(DEPLOYMENT_MODE))
            == "ModelMesh"
        )
        model = _judge_implementation(component, judge, filled=not mesh)
        judge_beside(entries(component.get("containers")), judge)
        _judge_worker(document, component, judge)
    elif not entries(component.get("containers")) and "art" not in fields(component):
        judge.missing(component, "containers")
    elif entries(component.get("containers")) and "art" in fields(component):
        judge.several(component, "art", "containers")
    elif "art" in fields(component):
        model = component.entries["art"]
        _judge_storage_spec(fields(model).get("storage"), fields(model).get("storageUri"), judge)
    for container in containers_of(component):
        for variable in entries(fields(container).get("env")):
            name = fields(variable).get("name")
            if name is not None and content(name) == BLOCKED:
                message = f"setting {BLOCKED} is not allowed for security reasons"
                judge.say(name, "not-allowed", message)
    judge_replicas(component, judge)
    judge_scaling(document, component, judge)
    _judge_logger(component.get("logger"), judge)
    judge_storage(component, model, judge)


def _judge_implementation(predictor: Table, judge: Judge, *, filled: bool) -> Node | None:
    """What serves the model: exactly one thing; returns it where it is no container.

    `filled`: the defaulting webhook has made a model of the first of the older formats, in the
    place of any other model.
    """
    chosen = [name for name in OLD_FORMATS if name in fields(predictor)]
    if "model" in fields(predictor) and not (filled and chosen):
        chosen.insert(0, "model")
    containers = entries(predictor.get("containers"))
    names = [content(fields(container).get("name")) for container in containers]
    custom = names.count(CONTAINER) or (1 if containers and not chosen else 0)
    if len(chosen) + custom != 1:
        paths = ", ".join([*chosen, *(["containers"] if containers else [])]) or "none of them"
        judge.say(
            predictor,
            "one-of",
            f"exactly one of model, containers and the older formats must be specified: {paths}",
            "Write spec.predictor.model.",
        )
    for name in chosen:
        own = fields(predictor.entries[name]).get("name")
        if own is not None and content(own):
            message = "the 'name' field is not allowed in standard predictor"
            judge.say(own, "not-allowed", message)
    for variable in entries(fields(containers[0]).get("env")) if custom and containers else ():
        value = fields(variable).get("value")
        protocol = content(fields(variable).get("name")) == "PROTOCOL"
        if protocol and content(value) not in ("v1", "v2"):
            message = f"invalid protocol {content(value)}. Must be one of [v1, v2]"
            judge.say(value or variable, "unsupported-value", message)
    return predictor.entries[chosen[0]] if chosen else None


def _judge_storage_spec(spec: Node | None, uri: Node | None, judge: Judge) -> None:
    if spec is not None and uri is not None and not content(uri).startswith(_STORAGE):
        judge.invalid(uri, f"with storage it must begin with one of {', '.join(_STORAGE)}")


def _judge_worker(document: Table, predictor: Table, judge: Judge) -> None:
    """Several nodes for one replica."""
    worker = fields(predictor).get("workerSpec")
    if worker is None:
        return
    judge_worker(worker, judge)
    annotations = fields(child(document, "metadata", "annotations"))
    for container in entries(fields(worker).get("containers")):
        judge_devices(container, annotations, judge)
    model = predictor.get("model")
    if model is None:
        return
    judge_head(model, annotations, judge)
    uri = fields(model).get("storageUri")
    if uri is None:
        judge.missing(model, "storageUri")
    elif content(uri).split("://")[0] not in ("pvc", "oci"):
        judge.invalid(uri, "several nodes need a pvc:// or oci:// model")
    chosen = annotations.get(AUTOSCALER)
    if content(chosen) != "none":
        judge.say(
            chosen or worker,
            "conflict",
            f"Multinode only supports the autoscaler none, not ({content(chosen)})",
            f"Write the annotation {AUTOSCALER}: none.",
        )


def _judge_logger(logger: Node | None, judge: Judge) -> None:
    inside = fields(logger)
    if logger is None:
        return
    mode_node = inside.get("mode")
    if content(mode_node) not in ("all", "request", "response"):
        judge.say(
            mode_node or logger,
            "unsupported-value",
            "invalid logger type: must be all, request or response",
            field=f"{logger.path}.mode",
        )
    storage = fields(inside.get("storage"))
    if "storage" in inside and not {"path", "parameters", "key"} <= storage.keys():
        judge.missing(inside["storage"], *({"path", "parameters", "key"} - storage.keys()))
