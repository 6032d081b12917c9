"""The annotations that bound a revision's replicas, and how an annotation is looked up.

Source: knative/serving pkg/apis/autoscaling/{register,annotation_validation}.go.
"""

import re
from collections.abc import Mapping

from relume.cluster.admission.judge import INT32, Judge, content
from relume.config.nodes import Node

AUTOSCALING = "autoscaling.knative.dev/"
NO_OLD_NAME = ("class", "metric", "target", "window", "activation-scale")
_WHOLE = re.compile(r"[+-]?[0-9]+")

Annotations = Mapping[str, Node]


def autoscaling(annotations: Annotations, name: str) -> Node | None:
    """The annotation of the autoscaler that counts, under its new or its old name."""
    old = re.sub(r"-(.)", lambda match: match[1].upper(), name)
    names = (name,) if name in NO_OLD_NAME else (name, old)
    return first_of(annotations, *(AUTOSCALING + each for each in names))


def first_of(annotations: Annotations, *names: str) -> Node | None:
    return next((annotations[name] for name in names if name in annotations), None)


def judge_scales(annotations: Annotations, judge: Judge) -> None:
    low_node, high_node = (autoscaling(annotations, name) for name in ("min-scale", "max-scale"))
    low, high = _scale(low_node, judge), _scale(high_node, judge)
    if high_node is not None and high and high < low:
        prefix = high_node.path.removesuffix("max-scale").removesuffix("maxScale")
        judge.say(
            high_node,
            "conflict",
            f"max-scale={high} is less than min-scale={low}: {prefix}max-scale, {prefix}min-scale",
        )
    limit = judge.cluster.number("max-scale-limit")
    if high_node is not None and limit and not 0 < high <= limit:
        judge.bounds(high_node, 1, limit)
    node = autoscaling(annotations, "activation-scale")
    if node is None:
        return
    text = content(node)
    if not _WHOLE.fullmatch(text) or abs(int(text)) > INT32:
        judge.invalid(node, "must be a whole number")
        return
    scale = int(text)
    if low > scale:
        judge.say(node, "conflict", f"min-scale={low} is greater than activation-scale={scale}")
    elif high and high < scale:
        judge.say(node, "conflict", f"max-scale={high} is less than activation-scale={scale}")
    elif scale < 2:
        judge.say(node, "out-of-range", f"activation-scale={scale} must be greater than 1")


def _scale(node: Node | None, judge: Judge) -> int:
    if node is None:
        return 0
    text = content(node)
    if not _WHOLE.fullmatch(text):
        judge.invalid(node, "must be a whole number")
    elif not 0 <= int(text[:20]) <= INT32:
        judge.bounds(node, 0, INT32)
    else:
        return int(text)
    return 0


def judge_initial_scale(node: Node | None, judge: Judge) -> None:
    if node is None:
        return
    text = content(node)
    if not _WHOLE.fullmatch(text):
        judge.invalid(node, "must be a whole number")
    elif int(text[:20]) < 0:
        judge.invalid(node, f"{node.path} must be greater than 0")
    elif int(text) == 0 and not judge.cluster.switch("allow-zero-initial-scale"):
        judge.say(
            node,
            "feature-off",
            f"invalid value: 0: {node.path}=0 not allowed by cluster",
            "Remove it, or set allow-zero-initial-scale: true in the config-autoscaler map.",
        )
