"""The measures that an InferenceService's autoscaler is given, beyond the one of `scaleMetric`.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go.
"""

from relume.cluster.admission.judge import Judge, content, entries, fields, number
from relume.cluster.claims import quantity
from relume.config.nodes import Node, Table

_KEDA = {"Resource": "resource", "External": "external", "PodMetric": "podmetric"}
_AIMS = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
_MEBIBYTE = 1 << 20


def judge_metrics(component: Table, judge: Judge, *, keda: bool) -> None:
    """`autoScaling.metrics`, for KEDA or for the horizontal pod autoscaler."""
    known = _KEDA if keda else {"Resource": "resource"}
    for metric in entries(fields(component.get("autoScaling")).get("metrics")):
        inside = fields(metric)
        kind = content(inside.get("type"))
        if kind not in known:
            judge.say(
                inside.get("type", metric),
                "unsupported-value",
                f"metric source type {kind or 'nothing'}: must be {' or '.join(known)}",
                field=f"{metric.path}.type",
            )
        elif known[kind] not in inside:
            judge.missing(metric, known[kind])
        elif keda and kind == "Resource":
            _judge_resource(inside["resource"], judge)
        elif keda:
            _judge_query(inside[known[kind]], judge)


def _judge_resource(source: Node, judge: Judge) -> None:
    inside = fields(source)
    name, target = content(inside.get("name")), inside.get("target", source)
    aim = fields(target).get("type")
    kinds = ("Utilization",) if name == "cpu" else ("AverageValue", "Utilization")
    if content(aim) not in kinds:
        message = f"the {name} target value type should be {' or '.join(kinds)}"
        judge.say(aim or target, "unsupported-value", message, field=f"{target.path}.type")
        return
    least = fields(target).get("averageValue")
    if content(aim) == "AverageValue" and least is not None and _amount(least) < _MEBIBYTE:
        judge.say(least, "out-of-range", "the memory target value should be at least 1Mi")
    _judge_aim(target, judge)


def _judge_query(source: Node, judge: Judge) -> None:
    metric, target = (fields(source).get(name, source) for name in ("metric", "target"))
    if not content(fields(metric).get("query")):
        judge.missing(metric, "query")
    if "value" not in fields(target):
        judge.missing(target, "value")
    else:
        _judge_aim(target, judge)


def _judge_aim(target: Node, judge: Judge) -> None:
    """The value that goes with the target's type."""
    inside = fields(target)
    needed = _AIMS.get(content(inside.get("type")))
    if needed is None:
        return
    node, value = inside.get(needed), number(inside.get(needed))
    if node is None:
        judge.missing(target, needed)
    elif needed == "averageUtilization" and value is not None and not 1 <= value <= 100:
        judge.bounds(node, 1, 100)


def _amount(node: Node) -> float:
    try:
        return float(quantity.parse(content(node)))
    except ValueError:
        return float("inf")  # the schema says that it is no quantity
