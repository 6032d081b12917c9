"""Annotations that Knative Serving's webhook judges.

Source: knative/serving pkg/apis/autoscaling/annotation_validation.go, pkg/apis/serving/{register,
metadata_validation}.go, pkg/apis/serving/v1/revision_validation.go; knative/networking
pkg/apis/networking. Each has its kebab-case name and, where it is older, a camel-case one; the
first that is there counts.
"""

import math
import re

from relume.cluster.admission.judge import Judge, content
from relume.cluster.admission.scales import (
    AUTOSCALING,
    NO_OLD_NAME,
    Annotations,
    autoscaling,
    first_of,
    judge_initial_scale,
    judge_scales,
)
from relume.cluster.claims import quantity
from relume.config.autoscaling import DURATIONS, LEAST_TARGET, LONGEST, NAMES, RANGES, kebab
from relume.config.durations import go_duration
from relume.config.fields import did_you_mean
from relume.config.nodes import Node

SERVING = "serving.knative.dev/"
PROGRESS_DEADLINE = SERVING + "progress-deadline"
ROLLOUT_DURATION = SERVING + "rollout-duration"
INITIAL_SCALE = AUTOSCALING + "initial-scale"
KPA, HPA = "kpa.autoscaling.knative.dev", "hpa.autoscaling.knative.dev"

_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I | re.A)
_SIDECAR = "queue.sidecar." + SERVING
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
    _judge_sidecar(annotations, judge)
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
        _judge_seconds(
            first_of(annotations, ROLLOUT_DURATION, SERVING + "rolloutDuration"),
            "rollout-duration",
            judge,
        )


def _judge_autoscaling(annotations: Annotations, judge: Judge) -> None:
    chosen = autoscaling(annotations, "class")
    ours = content(chosen).endswith("autoscaling.knative.dev")  # others may be anybody's
    if chosen is not None and ours and content(chosen) not in (KPA, HPA):
        judge.invalid(chosen, f"must be {KPA} or {HPA}")
    judge_scales(annotations, judge)
    for name, (low, high) in RANGES.items():
        _judge_number(autoscaling(annotations, name), low, high, judge)
    _judge_target(autoscaling(annotations, "target"), judge)
    burst = autoscaling(annotations, "target-burst-capacity")
    if burst is not None:
        value = _float(content(burst))
        if value is None or (value < 0 and value != -1):
            judge.invalid(burst, "must be -1 (no bound), 0 or more")
    for name, (least, precise) in DURATIONS.items():
        _judge_duration(autoscaling(annotations, name), least, judge, precise=precise)
    _judge_metric(annotations, judge)
    judge_initial_scale(autoscaling(annotations, "initial-scale"), judge)


def _judge_number(
    node: Node | None, low: float, high: float, judge: Judge, *, field: str | None = None
) -> None:
    if node is None:
        return
    value = _float(content(node))
    if value is None:
        judge.invalid(node, "must be a number", field=field)
    elif value < low or value > high:
        judge.bounds(node, f"{low:g}", f"{high:g}", field=field)


def _judge_target(node: Node | None, judge: Judge) -> None:
    if node is None:
        return
    value = _float(content(node))
    if value is None:
        judge.invalid(node, "must be a number")
    elif value < LEAST_TARGET:
        judge.say(node, "out-of-range", f"target {content(node)} should be at least {LEAST_TARGET}")


def _float(text: str) -> float | None:
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    overflow = math.isinf(value) and "i" not in text.lower()
    return None if overflow else value


def _judge_duration(node: Node | None, low: str, judge: Judge, *, precise: bool) -> None:
    if node is None:
        return
    text = content(node)
    try:
        seconds = go_duration(text)
    except ValueError as error:
        judge.invalid(node, str(error))
        return
    if not go_duration(low) <= seconds <= go_duration(LONGEST):
        judge.bounds(node, low, LONGEST)
    elif precise and not seconds.is_integer():
        judge.say(node, "invalid-value", "must be specified with at most second precision")


def _judge_metric(annotations: Annotations, judge: Judge) -> None:
    written = autoscaling(annotations, "class")
    chosen = KPA if written is None else content(written)
    node = autoscaling(annotations, "metric")
    if node is not None:
        text = content(node)
        if chosen == KPA and text not in ("concurrency", "rps"):
            judge.invalid(node, "must be concurrency or rps")
        elif chosen == HPA and not text:
            judge.invalid(node, "must not be empty")
    algorithm = autoscaling(annotations, "metric-aggregation-algorithm")
    known = ("linear", "weightedExponential", "weighted-exponential", "")
    if algorithm is not None and chosen == KPA and content(algorithm) not in known:
        judge.invalid(algorithm, "must be linear or weighted-exponential")


def _judge_seconds(node: Node | None, name: str, judge: Judge) -> None:
    text = content(node)
    if node is None or not text:
        return
    try:
        seconds = go_duration(text)
    except ValueError as error:
        judge.invalid(node, str(error))
        return
    if not seconds.is_integer():
        judge.say(node, "invalid-value", f"{name}={text} is not at second precision")
    elif seconds < 0:
        judge.say(node, "out-of-range", f"{name}={text} must be positive")


def _judge_networking(annotations: Annotations, judge: Judge) -> None:
    for name, node in annotations.items():
        known = name.removeprefix(_NETWORKING) in _NETWORKING_NAMES
        if name.startswith(_NETWORKING.rstrip("/")) and not known:
            hint = did_you_mean(name.removeprefix(_NETWORKING), _NETWORKING_NAMES)
            field = node.path.removesuffix("." + name)
            judge.say(node, "not-allowed", f'invalid key name "{name}"{hint}', field=field)


def _judge_sidecar(annotations: Annotations, judge: Judge) -> None:
    share = first_of(annotations, _SIDECAR + "resource-percentage", _SIDECAR + "resourcePercentage")
    _judge_number(share, 0.1, 100.0, judge, field=_keyed(share))
    for name in _SIDECAR_QUANTITIES:
        node = annotations.get(name)
        if node is not None:
            try:
                quantity.parse(content(node))
            except ValueError as error:
                judge.invalid(node, str(error), field=_keyed(node))


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
        if now not in NAMES or (now != short and now in NO_OLD_NAME):
            hint = did_you_mean(short, NAMES)
            judge.say(node, "annotation-ignored", f"{name} does not exist{hint}")
