"""autoscaling HorizontalPodAutoscaler, in the versions v1 and v2.

Source: kubernetes pkg/apis/autoscaling/validation/validation.go.
"""

from relume.cluster.admission.judge import INT32, Judge, child, content, entries, fields, number
from relume.cluster.claims import quantity
from relume.config.nodes import Node, Table

_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_AIMS = {"AverageValue": "averageValue", "Utilization": "averageUtilization", "Value": "value"}
_LONGEST_WINDOW = 3600  # seconds
_LONGEST_PERIOD = 1800


def judge_autoscaler(document: Table, judge: Judge) -> None:
    """Its bounds, what it scales, and what it measures."""
    spec = document.get("spec") or document
    least, most = child(spec, "minReplicas"), child(spec, "maxReplicas")
    low, high = number(least), number(most)
    if least is not None and low is not None and low < 1:
        why = "must be greater than or equal to 1 while the gate HPAScaleToZero is off"
        judge.invalid(least, why)
    if most is not None and high is not None and high < 1:
        judge.invalid(most, "must be greater than 0")
    if most is not None and low is not None and high is not None and high < low:
        fix = "Raise maxReplicas, or lower minReplicas."
        judge.invalid(most, "must be greater than or equal to `minReplicas`", fix)
    if (target := child(spec, "scaleTargetRef")) is not None:
        judge.check_filled(target, "kind", "name")
    judge.check_number(child(spec, "targetCPUUtilizationPercentage"), 1, INT32)
    for metric in entries(spec, "metrics"):
        _judge_metric(metric, judge)
    for direction in ("scaleUp", "scaleDown"):
        _judge_pace(child(spec, "behavior", direction), judge)


def _judge_metric(metric: Node, judge: Judge) -> None:
    kind = child(metric, "type")
    wanted = _SOURCES.get(content(kind))
    if wanted is None:
        judge.unsupported(kind or metric, _SOURCES, field=f"{metric.path}.type")
        return
    for name, node in fields(metric).items():
        if name not in ("type", wanted):
            message = f"{node.path}: must populate the given metric source only"
            judge.say(node, "one-of", message, f"Keep {wanted}, and remove {name}.")
    source = child(metric, wanted)
    if source is None:
        judge.missing(metric, wanted)
        return
    if wanted in ("resource", "containerResource"):
        judge.check_filled(source, "name")
    else:
        judge.check_filled(child(source, "metric") or source, "name")
    if wanted == "object" and (described := child(source, "describedObject")) is not None:
        judge.check_filled(described, "kind", "name")
    if (target := child(source, "target")) is not None:
        _judge_target(target, judge)


def _judge_target(target: Node, judge: Judge) -> None:
    """One value, which goes with the type and is above zero."""
    judge.check_word(child(target, "type"), _AIMS, empty=False)
    values = [node for name, node in fields(target).items() if name in _AIMS.values()]
    for node in values:
        if node.path.endswith("averageUtilization"):
            judge.check_number(node, 1, INT32)
        elif (value := judge.parsed(node, quantity.parse)) is not None and value <= 0:
            judge.invalid(node, "must be positive")
    if not values:
        wanted = _AIMS.get(content(target, "type"), "averageValue")
        judge.missing(target, wanted)
    elif len(values) > 1:
        message = "may not set more than one of a value, an average value and a utilization"
        judge.say(values[1], "one-of", message)


def _judge_pace(rules: Node | None, judge: Judge) -> None:
    judge.check_number(child(rules, "stabilizationWindowSeconds"), 0, _LONGEST_WINDOW)
    judge.check_word(child(rules, "selectPolicy"), ("Max", "Min", "Disabled"))
    listed = child(rules, "policies")
    if listed is not None and not entries(listed):
        judge.say(listed, "missing-field", "must specify at least one Policy")
    for policy in entries(listed):
        judge.check_word(child(policy, "type"), ("Pods", "Percent"), empty=False)
        judge.check_number(child(policy, "value"), 1, INT32)
        judge.check_number(child(policy, "periodSeconds"), 1, _LONGEST_PERIOD)
