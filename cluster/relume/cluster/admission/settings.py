"""Knative Serving's own config maps, as its webhook judges them.

Source: knative/serving pkg/apis/config/defaults.go, pkg/autoscaler/config/config.go. A map may be
laid over the one that is there: a key that it leaves out has its shipped value here.
"""

import math
from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, child, content, fields
from relume.config.durations import go_duration
from relume.config.nodes import Node, Table

_NAMESPACE = "knative-serving"
_LARGEST = 2.0**63
_SECONDS = "revision-timeout-seconds"
_MOST_SECONDS = "max-revision-timeout-seconds"
_DEFAULTS: Mapping[str, tuple[float, float, float]] = {  # shipped, least, most
    _SECONDS: (300, -_LARGEST, _LARGEST),
    _MOST_SECONDS: (600, -_LARGEST, _LARGEST),
    "revision-response-start-timeout-seconds": (300, -_LARGEST, _LARGEST),
    "revision-idle-timeout-seconds": (0, -_LARGEST, _LARGEST),
    "container-concurrency": (0, 0, _LARGEST),
    "container-concurrency-max-limit": (1000, 1, _LARGEST),
}
_ABOVE_ONE = math.nextafter(1.0, 2.0)
_ABOVE_ZERO = math.nextafter(0.0, 1.0)
_AUTOSCALER: Mapping[str, tuple[float, float, float]] = {
    "max-scale-up-rate": (1000, _ABOVE_ONE, math.inf),
    "max-scale-down-rate": (2, _ABOVE_ONE, math.inf),
    "container-concurrency-target-percentage": (70, _ABOVE_ZERO, 100),
    "container-concurrency-target-default": (100, _ABOVE_ZERO, math.inf),
    "requests-per-second-target-default": (200, 0.01, math.inf),
    "target-burst-capacity": (211, -1, math.inf),
    "panic-window-percentage": (10, 1, 100),
    "panic-threshold-percentage": (200, -math.inf, math.inf),
    "activator-capacity": (100, 1, math.inf),
    "initial-scale": (1, 0, 2**31 - 1),
    "min-scale": (0, 0, 2**31 - 1),
    "max-scale": (0, 0, 2**31 - 1),
    "max-scale-limit": (0, 0, 2**31 - 1),
}
_DURATIONS: Mapping[str, tuple[float, float, bool]] = {  # seconds: least, most; whole
    "stable-window": (6, 3600, True),
    "scale-down-delay": (0, math.inf, True),
    "scale-to-zero-grace-period": (1e-9, math.inf, False),
    "scale-to-zero-pod-retention-period": (0, math.inf, False),
}


def judge_settings(document: Table, judge: Judge) -> None:
    """A config map of Knative Serving; of any other nothing is said."""
    metadata = child(document, "metadata")
    name, namespace = (content(child(metadata, key)) for key in ("name", "namespace"))
    data = fields(document.get("data"))
    if namespace != _NAMESPACE:
        return
    if name == "config-defaults":
        _judge_defaults(data, judge)
    elif name == "config-autoscaler":
        _judge_autoscaler(data, judge)


def _judge_defaults(data: Mapping[str, Node], judge: Judge) -> None:
    values = {key: _number(data, key, bounds, judge) for key, bounds in _DEFAULTS.items()}
    if values[_SECONDS] > values[_MOST_SECONDS]:
        _conflict(data, _SECONDS, _MOST_SECONDS, values, judge)
    start = "revision-response-start-timeout-seconds"
    if start in data and values[start] > max(0.0, values[_SECONDS]):
        _conflict(data, start, _SECONDS, values, judge)
    idle = "revision-idle-timeout-seconds"
    if idle in data and values[idle] > max(0.0, values[_SECONDS]):
        _conflict(data, idle, _SECONDS, values, judge)
    if values["container-concurrency"] > values["container-concurrency-max-limit"]:
        key = "container-concurrency"
        _conflict(data, key, "container-concurrency-max-limit", values, judge)


def _judge_autoscaler(data: Mapping[str, Node], judge: Judge) -> None:
    values = {key: _number(data, key, bounds, judge) for key, bounds in _AUTOSCALER.items()}
    for key, (least, most, whole) in _DURATIONS.items():
        _judge_duration(data.get(key), least, most, whole, judge)
    burst = data.get("target-burst-capacity")
    if burst is not None and -1 < values["target-burst-capacity"] < 0:
        judge.invalid(burst, "must be -1 (no bound), 0 or more")
    zero = content(data.get("allow-zero-initial-scale")).lower() in ("true", "t", "1")
    if values["initial-scale"] == 0 and not zero and "initial-scale" in data:
        judge.invalid(data["initial-scale"], "must be 1 where allow-zero-initial-scale is false")
    most, limit = values["max-scale"], values["max-scale-limit"]
    if limit > 0 and not 1 <= most <= limit:
        where = data.get("max-scale") or data["max-scale-limit"]
        judge.say(
            where, "conflict", f"max-scale={most:g} must be in [1, max-scale-limit={limit:g}]"
        )
    if most > 0 and values["min-scale"] > most:
        _conflict(data, "min-scale", "max-scale", values, judge)


def _conflict(
    data: Mapping[str, Node], key: str, over: str, values: Mapping[str, float], judge: Judge
) -> None:
    message = f"{key} ({values[key]:g}) cannot be greater than {over} ({values[over]:g})"
    where = data.get(key) or data.get(over)
    if where is not None:
        judge.say(where, "conflict", message, f"Raise {over}, or lower {key}.")


def _number(
    data: Mapping[str, Node], key: str, bounds: tuple[float, float, float], judge: Judge
) -> float:
    shipped, least, most = bounds
    node = data.get(key)
    if node is None:
        return shipped
    try:
        value = float(content(node))
    except ValueError:
        judge.invalid(node, "must be a number")
        return shipped
    if not least <= value <= most:
        judge.say(node, "out-of-range", f"{key} = {content(node)} is out of its range")
        return shipped
    return value


def _judge_duration(
    node: Node | None, least: float, most: float, whole: bool, judge: Judge
) -> None:
    if node is None:
        return
    try:
        seconds = go_duration(content(node))
    except ValueError as error:
        judge.invalid(node, str(error))
        return
    if not least <= seconds <= most:
        judge.say(node, "out-of-range", f"{content(node)} is out of its range")
    elif whole and not seconds.is_integer():
        judge.invalid(node, "must be specified with at most second precision")
