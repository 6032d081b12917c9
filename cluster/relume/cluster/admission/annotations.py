"""Annotations that Knative Serving's webhook judges.

Source: knative/serving pkg/apis/autoscaling/{register,annotation_validation}.go,
pkg/apis/serving/{register,metadata_validation}.go, pkg/apis/serving/v1/revision_validation.go;
knative/networking pkg/apis/networking. Each annotation has a kebab-case name and, where it is
older, a camel-case one; the first that is there counts.
"""

import math
import re
from collections.abc import Mapping

from relume.base.vocabulary import AUTOSCALING, KNATIVE_SERVING, PROGRESS_DEADLINE
from relume.cluster.admission.judge import INT32, Judge, content
from relume.cluster.claims import quantity
from relume.config.autoscaling import DURATIONS, LEAST_TARGET, LONGEST, NAMES, RANGES, kebab
from relume.config.durations import go_duration
from relume.config.fields import did_you_mean
from relume.config.nodes import Node

ROLLOUT_DURATION = KNATIVE_SERVING + "rollout-duration"
KPA, HPA = "kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"
Annotations = Mapping[str, Node]

_WHOLE = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I | re.A)
_NO_OLD_NAME = ("class", "metric", "target", "window", "activation-scale")
_SIDECAR = "queue.sidecar." + KNATIVE_SERVING
_SIDECAR_QUANTITIES = tuple(
    f"{_SIDECAR}{what}-resource-{kind}"
    for what in ("cpu", "memory", "ephemeral-storage")
    for kind in ("request", "limit")
)
_NETWORKING = "networking.knative.dev/"
_NETWORKING_NAMES = (
    "ingress.class",
    "ingress-class",
    "certificate.class",
    "certificate-class",
    "disableAutoTLS",
    "disable-auto-tls",
    "disable-external-domain-tls",
    "httpOption",
    "http-protocol",
)


def judge_template(annotations: Annotations, judge: Judge) -> None:
    """The annotations of a revision's template."""
    _judge_autoscaling(annotations, judge)
    _judge_networking(annotations, judge)
    share = _first_of(
        annotations, _SIDECAR + "resource-percentage", _SIDECAR + "resourcePercentage"
    )
    _judge_number(share, 0.1, 100.0, judge, field=_keyed(share))
    for node in (annotations.get(name) for name in _SIDECAR_QUANTITIES):
        judge.parsed(node, quantity.parse, field=_keyed(node))
    _judge_seconds(annotations.get(PROGRESS_DEADLINE), "progress-deadline", judge)
    _note_unknown(annotations, judge)


def judge_owner(annotations: Annotations, judge: Judge, *, rollout: bool) -> None:
    """The annotations of a Service, Configuration or Route: none of the autoscaler's."""
    for name, node in annotations.items():
        if name.startswith(AUTOSCALING.rstrip("/")):
            judge.say(
                node,
                "not-allowed",
                f'invalid key name "{name}": {node.path.removesuffix("." + name)}: autoscaling '
                "annotations must be put under spec.template.metadata.annotations",
                "Move it to spec.template.metadata.annotations.",
                field=node.path.removesuffix("." + name),
            )
    if rollout:
        duration = _first_of(annotations, ROLLOUT_DURATION, KNATIVE_SERVING + "rolloutDuration")
        _judge_seconds(duration, "rollout-duration", judge)


def autoscaling(annotations: Annotations, name: str) -> Node | None:
    """The annotation of the autoscaler that counts, under its new or its old name."""
    old = re.sub(r"-(.)", lambda match: match[1].upper(), name)
    names = (name,) if name in _NO_OLD_NAME else (name, old)
    return _first_of(annotations, *(AUTOSCALING + each for each in names))


def _first_of(annotations: Annotations, *names: str) -> Node | None:
    return next((annotations[name] for name in names if name in annotations), None)


def _judge_autoscaling(annotations: Annotations, judge: Judge) -> None:
    chosen = autoscaling(annotations, "class")
    ours = content(chosen).endswith("autoscaling.knative.dev")  # others may be anybody's
    if chosen is not None and ours and content(chosen) not in (KPA, HPA):
        judge.invalid(chosen, f"must be {KPA} or {HPA}")
    _judge_scales(annotations, judge)
    for name, (low, high) in RANGES.items():
        _judge_number(autoscaling(annotations, name), low, high, judge)
    target = autoscaling(annotations, "target")
    value = judge.parsed(target, _float)
    if target is not None and value is not None and value < LEAST_TARGET:
        message = f"target {content(target)} should be at least {LEAST_TARGET}"
        judge.say(target, "out-of-range", message)
    judge.parsed(autoscaling(annotations, "target-burst-capacity"), _burst)
    for name, (least, precise) in DURATIONS.items():
        _judge_duration(autoscaling(annotations, name), least, judge, precise=precise)
    _judge_metric(annotations, KPA if chosen is None else content(chosen), judge)
    _judge_initial_scale(autoscaling(annotations, "initial-scale"), judge)


def _float(text: str) -> float:
    """A number as Go reads it."""
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isinf(value) or "i" in text.lower():
            return value
    raise ValueError("must be a number")


def _burst(text: str) -> float:
    why = "must be -1 (no bound), 0 or more"
    try:
        value = _float(text)
    except ValueError:
        raise ValueError(why) from None
    if value < 0 and value != -1:
        raise ValueError(why)
    return value


def _whole(text: str) -> int:
    """A whole number. Of a very long one the beginning is read, since int() refuses long texts."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("must be a whole number")
    return int(text[:1000])


def _judge_number(
    node: Node | None, low: float, high: float, judge: Judge, *, field: str | None = None
) -> None:
    value = judge.parsed(node, _float, field=field)
    if node is not None and value is not None and (value < low or value > high):
        judge.bounds(node, f"{low:g}", f"{high:g}", field=field)


def _judge_duration(node: Node | None, low: str, judge: Judge, *, precise: bool) -> None:
    seconds = judge.parsed(node, go_duration)
    if node is None or seconds is None:
        return
    if not go_duration(low) <= seconds <= go_duration(LONGEST):
        judge.bounds(node, low, LONGEST)
    elif precise and not seconds.is_integer():
        judge.say(node, "invalid-value", "must be specified with at most second precision")


def _judge_seconds(node: Node | None, name: str, judge: Judge) -> None:
    text = content(node)
    seconds = judge.parsed(node, go_duration) if text else None
    if node is None or seconds is None:
        return
    if not seconds.is_integer():
        judge.say(node, "invalid-value", f"{name}={text} is not at second precision")
    elif seconds < 0:
        judge.say(node, "out-of-range", f"{name}={text} must be positive")


def _judge_metric(annotations: Annotations, chosen: str, judge: Judge) -> None:
    node = autoscaling(annotations, "metric")
    if node is not None and chosen == KPA and content(node) not in ("concurrency", "rps"):
        judge.invalid(node, "must be concurrency or rps")
    elif node is not None and chosen == HPA and not content(node):
        judge.invalid(node, "must not be empty")
    algorithm = autoscaling(annotations, "metric-aggregation-algorithm")
    known = ("linear", "weightedExponential", "weighted-exponential", "")
    if algorithm is not None and chosen == KPA and content(algorithm) not in known:
        judge.invalid(algorithm, "must be linear or weighted-exponential")


def _judge_scales(annotations: Annotations, judge: Judge) -> None:
    """The bounds of the replicas, and how many a service that was at zero starts with."""
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
    scale = judge.parsed(node, _whole)
    if node is None or scale is None:
        return
    if abs(scale) > INT32:
        judge.invalid(node, "must be a whole number")
    elif low > scale:
        judge.say(node, "conflict", f"min-scale={low} is greater than activation-scale={scale}")
    elif high and high < scale:
        judge.say(node, "conflict", f"max-scale={high} is less than activation-scale={scale}")
    elif scale < 2:
        judge.say(node, "out-of-range", f"activation-scale={scale} must be greater than 1")


def _scale(node: Node | None, judge: Judge) -> int:
    """The number of replicas in an annotation; 0, which sets no bound, if it is refused."""
    scale = judge.parsed(node, _whole)
    if node is None or scale is None:
        return 0
    if not 0 <= scale <= INT32:
        judge.bounds(node, 0, INT32)
        return 0
    return scale


def _judge_initial_scale(node: Node | None, judge: Judge) -> None:
    scale = judge.parsed(node, _whole)
    if node is None or scale is None:
        return
    if scale < 0:
        judge.invalid(node, f"{node.path} must be greater than 0")
    elif scale == 0 and not judge.cluster.switch("allow-zero-initial-scale"):
        judge.say(
            node,
            "feature-off",
            f"invalid value: 0: {node.path}=0 not allowed by cluster",
            "Remove it, or set allow-zero-initial-scale: true in the config-autoscaler map.",
        )


def _judge_networking(annotations: Annotations, judge: Judge) -> None:
    for name, node in annotations.items():
        known = name.removeprefix(_NETWORKING) in _NETWORKING_NAMES
        if name.startswith(_NETWORKING.rstrip("/")) and not known:
            hint = did_you_mean(name.removeprefix(_NETWORKING), _NETWORKING_NAMES)
            field = node.path.removesuffix("." + name)
            judge.say(node, "not-allowed", f'invalid key name "{name}"{hint}', field=field)


def _keyed(node: Node | None) -> str | None:
    """Where the webhook says that an annotation of the sidecar is."""
    if node is None:
        return None
    path, _, name = node.path.partition("." + _SIDECAR)
    return f"{path}.[{_SIDECAR}{name}]"


def _note_unknown(annotations: Annotations, judge: Judge) -> None:
    """Say which annotations of the autoscaler do not exist: the webhook lets them pass."""
    for name, node in annotations.items():
        if not name.startswith(AUTOSCALING):
            continue
        short = name.removeprefix(AUTOSCALING)
        now = kebab(short)
        if now not in NAMES or (now != short and now in _NO_OLD_NAME):
            hint = did_you_mean(short, NAMES)
            judge.say(node, "annotation-ignored", f"{name} does not exist{hint}")
