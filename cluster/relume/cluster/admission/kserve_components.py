"""One component of an InferenceService: its replicas, its measures, and where its model is.

Source: kserve/kserve pkg/apis/serving/v1beta1/{component,inference_service_validation,
predictor_custom,explainer}.go, pkg/validation/confidential.go.
"""

import re
from collections.abc import Sequence

from relume.base.vocabulary import AUTOSCALER_CLASS, DEPLOYMENT_MODE, STANDARD_MODES
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.claims import quantity
from relume.config.nodes import Node, Table
from relume.config.resources import MODELS_FOLDER

URI_VARIABLE = "STORAGE_URI"

_METRICS = {  # of KEDA; the horizontal pod autoscaler has the first
    "Resource": "resource",
    "External": "external",
    "PodMetric": "podmetric",
}
_AIMS = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
_MEBIBYTE = 1 << 20
_RESOURCE = re.compile(r"kbs:///[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


def judge_replicas(component: Table, judge: Judge) -> None:
    """`minReplicas`, `maxReplicas` and `containerConcurrency`."""
    for field, what in (
        ("minReplicas", "'MinReplicas'"),
        ("maxReplicas", "'MaxReplicas'"),
        ("containerConcurrency", "parallelism"),
    ):
        node, value = component.get(field), number(component, field)
        if node is not None and value is not None and value < 0:
            judge.say(node, "out-of-range", f"{what} cannot be less than 0: {value}")
    low, high = number(component, "minReplicas"), number(component, "maxReplicas") or 0
    low = 1 if low is None else low
    if 0 < high < low:
        message = f"'MinReplicas' cannot be greater than MaxReplicas: {low} > {high}"
        where = component.get("minReplicas") or component.get("maxReplicas") or component
        judge.say(where, "conflict", message)


def judge_scaling(document: Table, component: Table, judge: Judge) -> None:
    """`scaleMetric`, `scaleTarget` and `autoScaling`, as the chosen autoscaler reads them."""
    annotations = fields(document, "metadata", "annotations")
    metric = component.get("scaleMetric")
    standard = content(annotations.get(DEPLOYMENT_MODE)) in STANDARD_MODES
    chosen = content(annotations.get(AUTOSCALER_CLASS))
    if standard and chosen == "keda":
        if metric is not None:
            judge.say(metric, "not-allowed", "ScaleMetric is not supported for KEDA")
        _judge_metrics(component, judge, keda=True)
    elif standard and chosen != "hpa":
        return
    elif standard or content(annotations.get("autoscaling.knative.dev/class")).startswith("hpa."):
        _judge_metric(metric, ("cpu", "memory"), judge)
        judge.check_number(component.get("scaleTarget"), 1, 100)  # cpu in percent, memory in MiB
        _judge_metrics(component, judge, keda=False)
    else:
        strategy, target = component.get("deploymentStrategy"), component.get("scaleTarget")
        if strategy is not None:
            message = "customizing deploymentStrategy is only supported for raw deployment mode"
            judge.say(strategy, "not-allowed", message)
        _judge_metric(metric, ("concurrency", "rps"), judge)
        aim = number(target)
        if content(metric) == "rps" and target is not None and aim is not None and aim < 1:
            judge.say(target, "out-of-range", f"the target for rps should be greater than 1: {aim}")


def _judge_metric(metric: Node | None, known: Sequence[str], judge: Judge) -> None:
    if metric is not None and content(metric) not in known:
        message = f"[{content(metric)}] is not a supported metric: {', '.join(known)}"
        judge.say(metric, "unsupported-value", message)


def _judge_metrics(component: Table, judge: Judge, *, keda: bool) -> None:
    """`autoScaling.metrics`, for KEDA or for the horizontal pod autoscaler."""
    known = _METRICS if keda else {"Resource": "resource"}
    for metric in entries(component, "autoScaling", "metrics"):
        kind = content(metric, "type")
        source = child(metric, known.get(kind, ""))
        if kind not in known:
            judge.say(
                child(metric, "type") or metric,
                "unsupported-value",
                f"metric source type {kind or 'nothing'}: must be {' or '.join(known)}",
                field=f"{metric.path}.type",
            )
        elif source is None:
            judge.missing(metric, known[kind])
        elif keda and kind == "Resource":
            _judge_resource(source, judge)
        elif keda:
            _judge_query(source, judge)


def _judge_resource(source: Node, judge: Judge) -> None:
    name, target = content(source, "name"), child(source, "target") or source
    kinds = ("Utilization",) if name == "cpu" else ("AverageValue", "Utilization")
    aim, least = child(target, "type"), child(target, "averageValue")
    if content(aim) not in kinds:
        message = f"the {name} target value type should be {' or '.join(kinds)}"
        judge.say(aim or target, "unsupported-value", message, field=f"{target.path}.type")
        return
    if content(aim) == "AverageValue" and least is not None and _amount(least) < _MEBIBYTE:
        judge.say(least, "out-of-range", "the memory target value should be at least 1Mi")
    _judge_aim(target, judge)


def _judge_query(source: Node, judge: Judge) -> None:
    target = child(source, "target") or source
    judge.check_filled(child(source, "metric") or source, "query")
    if child(target, "value") is None:
        judge.missing(target, "value")
    else:
        _judge_aim(target, judge)


def _judge_aim(target: Node, judge: Judge) -> None:
    """The value that goes with the target's type."""
    needed = _AIMS.get(content(target, "type"))
    if needed is None:
        return
    if child(target, needed) is None:
        judge.missing(target, needed)
    elif needed == "averageUtilization":
        judge.check_number(child(target, needed), 1, 100)


def _amount(node: Node) -> float:
    try:
        return float(quantity.parse(content(node)))
    except ValueError:
        return float("inf")  # the schema has refused it


def judge_storage(component: Table, model: Node | None, judge: Judge) -> None:
    """Where the model is: the `storageUri` of `model`, or without one a variable of a container."""
    several = component.get("storageUris")
    if several is not None and storage_uri(component, model) is not None:
        message = "Setting both StorageURI and StorageURIs is not supported."
        judge.say(several, "one-of", message)
    _judge_several(entries(several), judge)
    if model is None or not truth(model, "confidential", "enabled"):
        return
    judge.check_filled(model, "storageUri")
    resource = child(model, "confidential", "resourceId")
    if resource is not None and content(resource) and not _RESOURCE.fullmatch(content(resource)):
        judge.invalid(resource, "must be in the format kbs:///<repo>/<type>/<tag>")


def storage_uri(component: Table, model: Node | None) -> Node | None:
    """What says where the model is: a field of `model`, or a variable of a container."""
    if model is not None:
        return child(model, "storageUri")
    containers = entries(component, "containers")
    named = [one for one in containers if content(one, "name") == "kserve-container"]
    for container in (*named, *containers)[:1]:
        for variable in entries(container, "env"):
            if content(variable, "name") == URI_VARIABLE:
                return variable
    return None


def _judge_several(several: Sequence[Node], judge: Judge) -> None:
    """`storageUris`: models below one folder, and volumes beside them."""
    paths: list[str] = []
    claims: list[tuple[str, Node]] = []
    for one in several:
        judge.check_filled(one, "uri")
        written = child(one, "mountPath")
        path = MODELS_FOLDER if written is None else content(written)
        node = written or one
        if not path.startswith("/") or path == "/" or ".." in path:
            judge.invalid(node, "must be an absolute path below / without ..", shown=path)
        elif content(one, "uri").startswith("pvc://"):
            claims.append((path, node))
        else:
            paths.append(path)
    if len(paths) < 2:  # the webhook asks no more then
        return
    for count, (path, node) in enumerate(claims):
        if path in [other for other, _ in claims[:count]]:
            judge.say(node, "duplicate-item", f"PVC storage paths must be unique: {path}")
    if len({path.strip("/").split("/")[0] for path in paths}) > 1:
        where = several[0].path.rpartition("[")[0]
        message = f"storage paths must have a common parent directory: {', '.join(paths)}"
        judge.say(several[0], "conflict", message, "Mount all below one.", field=where)
