"""KServe's kinds, as its webhooks judge them.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go and what it calls,
pkg/webhook/admission/servingruntime/servingruntime_webhook.go, pkg/utils/utils.go. KServe stops at
the first error; here all are gathered.
"""

import json
from collections.abc import Iterator, Mapping

from relume.base.vocabulary import (
    AUTOSCALER_CLASS,
    DEPLOYMENT_MODE,
    GPU_RESOURCE_TYPES,
    SERVING_CONTAINER,
    STANDARD_MODES,
)
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.kserve_components import (
    URI_VARIABLE,
    judge_replicas,
    judge_scaling,
    judge_storage,
    storage_uri,
)
from relume.config.names import DNS_1035
from relume.config.nodes import Node, Table

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
_AUTOSCALERS = ("hpa", "external", "keda", "none")
_BLOCKED = "PYTHONPATH"
_STORAGE = ("s3://", "hdfs://", "webhdfs://")
RENAMED_MODES = {"RawDeployment": "Standard", "Serverless": "Knative"}
_FIXED_IN_CANARIES = ("workerSpec", "scaleTarget", "scaleMetric", "autoScaling")
_GPUS = frozenset({"nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu", "habana.ai/gaudi"})
_BASIC = frozenset({"cpu", "memory", "storage", "ephemeral-storage"})
_SIZES = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
_LOGGED = ("all", "request", "response")


def mode(document: Table) -> str:
    """The deployment mode, under its new name; Knative if the document names none."""
    said = content(document, "metadata", "annotations", DEPLOYMENT_MODE)
    known = RENAMED_MODES.get(said, said)
    return known if known in ("Standard", "Knative", "ModelMesh") else "Knative"


def judge_inference_service(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1beta1 InferenceService."""
    name = child(document, "metadata", "name")
    if name is not None and not DNS_1035.fullmatch(content(name)):
        judge.say(
            name,
            "invalid-name",
            f"invalid value: {content(name)}: an InferenceService name must consist of lower case "
            "letters, digits and '-', start with a letter and end with a letter or digit",
        )
    chosen = child(document, "metadata", "annotations", AUTOSCALER_CLASS)
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
    for pod in (component, inside.get("workerSpec")):
        for name in ("containers", "initContainers"):
            yield from entries(pod, name)


def _judge_component(document: Table, component: Table, kind: str, judge: Judge) -> None:
    model: Node | None = None
    containers, art = entries(component, "containers"), component.get("art")
    if kind == "predictor":
        mesh = content(document, "metadata", "annotations", DEPLOYMENT_MODE) == "ModelMesh"
        model = _judge_implementation(component, judge, filled=not mesh)
        for container in containers:
            if content(container, "name") == "transformer-container":  # it loads no model
                message = "storage uri should not be specified in transformer container"
                _forbid_variable(container, URI_VARIABLE, message, judge)
                break
        _judge_predictor_worker(document, component, judge)
    elif not containers and art is None:
        judge.missing(component, "containers")
    elif containers and art is not None:
        judge.several(component, "art", "containers")
    elif art is not None:
        model, uri = art, child(art, "storageUri")
        known = content(uri).startswith(_STORAGE)
        if uri is not None and child(art, "storage") is not None and not known:
            judge.invalid(uri, f"with storage it must begin with one of {', '.join(_STORAGE)}")
    for container in containers_of(component):
        _forbid_path(container, judge)
    judge_replicas(component, judge)
    judge_scaling(document, component, judge)
    _judge_logger(component.get("logger"), judge)
    judge_storage(component, model, judge)


def _judge_implementation(predictor: Table, judge: Judge, *, filled: bool) -> Node | None:
    """Ask for exactly one thing that serves the model; return it if it is not a container.

    `filled`: the defaulting webhook has put a model in the place of the first older format. It
    overwrites a model that is there.
    """
    chosen = [name for name in OLD_FORMATS if name in fields(predictor)]
    if "model" in fields(predictor) and not (filled and chosen):
        chosen.insert(0, "model")
    containers = entries(predictor, "containers")
    names = [content(container, "name") for container in containers]
    custom = names.count(SERVING_CONTAINER) or (1 if containers and not chosen else 0)
    if len(chosen) + custom != 1:
        paths = ", ".join([*chosen, *(["containers"] if containers else [])]) or "none of them"
        judge.say(
            predictor,
            "one-of",
            f"exactly one of model, containers and the older formats must be specified: {paths}",
            "Write spec.predictor.model.",
        )
    for name in chosen:
        own = child(predictor, name, "name")
        if own is not None and content(own):
            message = "the 'name' field is not allowed in standard predictor"
            judge.say(own, "not-allowed", message)
    for variable in entries(containers[0], "env") if custom and containers else ():
        value = child(variable, "value")
        if content(variable, "name") == "PROTOCOL" and content(value) not in ("v1", "v2"):
            message = f"invalid protocol {content(value)}. Must be one of [v1, v2]"
            judge.say(value or variable, "unsupported-value", message)
    return predictor.entries[chosen[0]] if chosen else None


def _forbid_variable(container: Node, name: str, message: str, judge: Judge) -> None:
    for variable in entries(container, "env"):
        node = child(variable, "name")
        if node is not None and content(node) == name:
            judge.say(node, "not-allowed", message)


def _forbid_path(container: Node, judge: Judge) -> None:
    message = f"setting {_BLOCKED} is not allowed for security reasons"
    _forbid_variable(container, _BLOCKED, message, judge)


def _judge_logger(logger: Node | None, judge: Judge) -> None:
    if logger is None:
        return
    if content(logger, "mode") not in _LOGGED:
        judge.say(
            child(logger, "mode") or logger,
            "unsupported-value",
            "invalid logger type: must be all, request or response",
            field=f"{logger.path}.mode",
        )
    storage = child(logger, "storage")
    missing = [name for name in ("path", "parameters", "key") if child(storage, name) is None]
    if storage is not None and missing:
        judge.missing(storage, *missing)


def _judge_canaries(document: Table, judge: Judge) -> None:
    """`spec.canary`: other predictors beside the stable one, each with a share of the requests."""
    listed, stable = child(document, "spec", "canary"), child(document, "spec", "predictor")
    canaries = entries(listed)
    if listed is None or not canaries:
        return
    if content(document, "metadata", "annotations", DEPLOYMENT_MODE) not in STANDARD_MODES:
        message = "canary is only supported in Standard deployment mode"
        judge.say(listed, "not-allowed", message)
    names, total = {content(stable, "name")}, 0
    for canary in canaries:
        total += number(canary, "trafficPercent") or 0
        judge.check_number(child(canary, "trafficPercent"), 0, 100)
        _judge_canary(canary, names, number(stable, "minReplicas"), judge)
    if total > 100:
        message = f"trafficPercent of all canaries is {total} > 100"
        judge.say(canaries[0], "out-of-range", message, field=listed.path)
    if isinstance(stable, Table):
        held = any(name in fields(stable) for name in ("model", *OLD_FORMATS))
        if not held and storage_uri(stable, None) is None:
            judge.missing(stable, "model")


def _judge_canary(canary: Node, names: set[str], least: int | None, judge: Judge) -> None:
    """A canary has its own name, a fixed number of replicas, and one model."""
    predictor, name = child(canary, "predictor"), child(canary, "predictor", "name")
    if name is None or not content(name):
        judge.missing(predictor or canary, "name", path=f"{canary.path}.predictor")
    elif content(name) in names:
        message = f'predictor.name "{content(name)}" is there already'
        judge.say(name, "duplicate-item", message)
    names.add(content(name))
    if not isinstance(predictor, Table):
        return
    judge_replicas(predictor, judge)
    for field in (*_FIXED_IN_CANARIES, "maxReplicas"):
        node = predictor.get(field)
        if node is not None and (field != "maxReplicas" or (number(node) or 0) > 0):
            judge.say(node, "not-allowed", f"a canary must not set {field}: its replicas are fixed")
    own, bound = number(predictor, "minReplicas"), 1 if least is None else least
    if own is not None and own > bound:
        message = f"minReplicas must not exceed the stable predictor's: {own} > {bound}"
        judge.say(predictor.entries["minReplicas"], "conflict", message)
    _judge_implementation(predictor, judge, filled=False)


def judge_runtime(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1alpha1 ServingRuntime and ClusterServingRuntime."""
    spec = document.get("spec")
    if truth(spec, "disabled"):
        return
    priorities: dict[str, int] = {}
    for one in entries(spec, "supportedModelFormats"):
        priority, name = number(one, "priority"), content(one, "name")
        if not truth(one, "autoSelect") or priority is None:
            continue
        if priorities.setdefault(name, priority) != priority:
            message = f"different priorities assigned for the model format {name}"
            judge.say(fields(one)["priority"], "conflict", message)
    worker = child(spec, "workerSpec")
    for container in (*entries(spec, "containers"), *entries(worker, "containers")):
        _forbid_path(container, judge)
    if worker is None:
        return
    _judge_worker(worker, judge)
    annotations = fields(spec, "annotations")
    for container in entries(spec, "containers"):
        if content(container, "name") == SERVING_CONTAINER:
            _judge_head(container, annotations, judge)
    workers = entries(worker, "containers")
    if not workers:
        judge.missing(worker, "containers")
    elif content(workers[0], "name") == "worker-container":
        _judge_devices(workers[0], annotations, judge)


def _judge_predictor_worker(document: Table, predictor: Table, judge: Judge) -> None:
    """`workerSpec` of a predictor: several nodes for one replica."""
    worker, model = predictor.get("workerSpec"), predictor.get("model")
    if worker is None:
        return
    _judge_worker(worker, judge)
    annotations = fields(document, "metadata", "annotations")
    for container in entries(worker, "containers"):
        _judge_devices(container, annotations, judge)
    if model is None:
        return
    _judge_head(model, annotations, judge)
    uri = child(model, "storageUri")
    if uri is None:
        judge.missing(model, "storageUri")
    elif content(uri).split("://")[0] not in ("pvc", "oci"):
        judge.invalid(uri, "several nodes need a pvc:// or oci:// model")
    chosen = annotations.get(AUTOSCALER_CLASS)
    if content(chosen) != "none":
        judge.say(
            chosen or worker,
            "conflict",
            f"Multinode only supports the autoscaler none, not ({content(chosen)})",
            f"Write the annotation {AUTOSCALER_CLASS}: none.",
        )


def _judge_worker(worker: Node, judge: Judge) -> None:
    """One container, and sizes from 1."""
    containers = child(worker, "containers")
    if containers is not None and len(entries(containers)) > 1:
        message = "setting multiple containers in workerSpec is not allowed"
        judge.say(containers, "not-allowed", message)
    for name in ("pipelineParallelSize", "tensorParallelSize"):
        node, value = child(worker, name), number(worker, name)
        if node is not None and value is not None and value < 1:
            judge.say(node, "out-of-range", f"{name} cannot be less than 1: {value}")


def _judge_head(container: Node, annotations: Mapping[str, Node], judge: Judge) -> None:
    """The container that the workers belong to: KServe itself sets the sizes in it."""
    for size in _SIZES:
        message = f"setting {size} in environment variables is not allowed"
        _forbid_variable(container, size, message, judge)
    _judge_devices(container, annotations, judge)


def _judge_devices(container: Node, annotations: Mapping[str, Node], judge: Judge) -> None:
    """Every extended resource must be a GPU that KServe knows, or that an annotation names."""
    known = _BASIC | _GPUS | _named_gpus(annotations.get(GPU_RESOURCE_TYPES), judge)
    for kind in ("limits", "requests"):
        for name, node in fields(container, "resources", kind).items():
            if name not in known:
                judge.say(
                    node,
                    "unsupported-value",
                    f"unknown GPU resource type in a container: {name}",
                    f"Write the annotation {GPU_RESOURCE_TYPES}: '[\"{name}\"]'.",
                )


def _named_gpus(annotation: Node | None, judge: Judge) -> frozenset[str]:
    if annotation is None or not content(annotation):
        return frozenset()
    try:
        names = json.loads(content(annotation))
    except ValueError:
        names = None
    if not isinstance(names, list) or not names or not all(n and type(n) is str for n in names):
        judge.invalid(annotation, "must be a JSON array of names")
        return frozenset()
    return frozenset(names)
