"""KServe's kinds, as its webhooks judge them.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go and what it calls.
KServe stops at the first error; here all are gathered.
"""

import re
from collections.abc import Iterator

from relume.config.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.config.admission.kserve_scaling import AUTOSCALER, MODE, judge_replicas, judge_scaling
from relume.config.nodes import Node, Table

GPU_TYPES = "serving.kserve.io/gpu-resource-types"
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
    said = content(fields(child(document, "metadata", "annotations")).get(MODE))
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
    _judge_canaries(document, judge)


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
    if kind == "predictor":
        _judge_implementation(component, judge)
        _judge_worker(document, component, judge)
    elif not entries(component.get("containers")) and "art" not in component.entries:
        judge.missing(component, "containers")
    for container in containers_of(component):
        for variable in entries(fields(container).get("env")):
            name = fields(variable).get("name")
            if name is not None and content(name) == BLOCKED:
                message = f"setting {BLOCKED} is not allowed for security reasons"
                judge.say(name, "not-allowed", message)
    judge_replicas(component, judge)
    judge_scaling(document, component, judge)
    _judge_logger(component.get("logger"), judge)
    _judge_storage(component, judge)


def _judge_implementation(predictor: Table, judge: Judge) -> None:
    chosen = [name for name in ("model", *OLD_FORMATS) if name in fields(predictor)]
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
        model = fields(predictor.entries[name])
        _judge_storage_spec(name, model.get("storage"), model.get("storageUri"), judge)
    for variable in entries(fields(containers[0]).get("env")) if custom and containers else ():
        value = fields(variable).get("value")
        protocol = content(fields(variable).get("name")) == "PROTOCOL"
        if protocol and content(value) not in ("v1", "v2"):
            message = f"invalid protocol {content(value)}. Must be one of [v1, v2]"
            judge.say(value or variable, "unsupported-value", message)


def _judge_storage_spec(name: str, spec: Node | None, uri: Node | None, judge: Judge) -> None:
    if spec is None or name in ("model", "sklearn", "xgboost", "lightgbm", "paddle", "triton"):
        return
    if uri is not None and not content(uri).startswith(_STORAGE):
        judge.invalid(uri, f"with storage it must begin with one of {', '.join(_STORAGE)}")


def _judge_worker(document: Table, predictor: Table, judge: Judge) -> None:
    """Several nodes for one replica."""
    worker = fields(predictor.get("workerSpec"))
    if "workerSpec" not in fields(predictor):
        return
    if len(entries(worker.get("containers"))) > 1:
        message = "setting multiple containers in workerSpec is not allowed"
        judge.say(worker["containers"], "not-allowed", message)
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        value, node = number(worker.get(name)), worker.get(name)
        if node is not None and value is not None and value < 1:
            judge.say(node, "out-of-range", f"{name} cannot be less than 1: {value}")
    model = predictor.get("model")
    if model is None:
        return
    for variable in entries(fields(model).get("env")):
        name_node = fields(variable).get("name")
        reserved = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
        if name_node is not None and content(name_node) in reserved:
            message = f"setting {content(name_node)} in environment variables is not allowed"
            judge.say(name_node, "not-allowed", message)
    uri = fields(model).get("storageUri")
    if uri is None:
        judge.missing(model, "storageUri")
    elif content(uri).split("://")[0] not in ("pvc", "oci"):
        judge.invalid(uri, "several nodes need a pvc:// or oci:// model")
    chosen = fields(child(document, "metadata", "annotations")).get(AUTOSCALER)
    if content(chosen) != "none":
        judge.say(
            chosen or predictor.entries["workerSpec"],
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


def _judge_storage(component: Table, judge: Judge) -> None:
    several = entries(component.get("storageUris"))
    single = next((m for m in containers_of(component) if "storageUri" in fields(m)), None)
    if several and single is not None:
        judge.say(
            component.entries["storageUris"],
            "one-of",
            "Setting both StorageURI and StorageURIs is not supported.",
        )
    for one in several:
        inside = fields(one)
        if not content(inside.get("uri")):
            judge.missing(one, "uri")
        path, node = content(inside.get("mountPath")), inside.get("mountPath", one)
        if not path.startswith("/") or path == "/" or ".." in path:
            judge.invalid(node, "must be an absolute path below / without ..", shown=path)
    confidential = fields(fields(single).get("confidential")) if single is not None else {}
    if truth(confidential.get("enabled")) and not content(fields(single).get("storageUri")):
        judge.missing(confidential["enabled"], "storageUri")


def _judge_canaries(document: Table, judge: Judge) -> None:
    canaries = entries(child(document, "spec", "canary"))
    if not canaries:
        return
    said = content(fields(child(document, "metadata", "annotations")).get(MODE))
    if _MODES.get(said, said) != "Standard":
        canary = document.table().entries["spec"].table().entries["canary"]
        judge.say(canary, "not-allowed", "canary is only supported in Standard deployment mode")
    total = 0
    for canary in canaries:
        share = fields(canary).get("trafficPercent")
        value = number(share) or 0
        total += value
        if share is not None and not 0 <= value <= 100:
            judge.bounds(share, 0, 100)
        if not content(fields(fields(canary).get("predictor")).get("name")):
            judge.missing(fields(canary).get("predictor", canary), "name")
    if total > 100:
        judge.say(canaries[0], "out-of-range", f"trafficPercent of all canaries is {total} > 100")
