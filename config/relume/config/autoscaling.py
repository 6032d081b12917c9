"""The `autoscaling.knative.dev/*` annotations: ranges and messages as Knative's webhook has them.

Source: knative/serving pkg/apis/autoscaling; what a real cluster answered is in the tests. The
tables here are also what `relume.cluster.admission.annotations` judges by.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from relume.base.vocabulary import AUTOSCALING
from relume.config.durations import go_duration, read_seconds
from relume.config.fields import Resource, did_you_mean
from relume.config.nodes import Node
from relume.config.resources import Autoscaling

MIN_SCALE = AUTOSCALING + "min-scale"
MAX_SCALE = AUTOSCALING + "max-scale"
#: The least and the most of an annotation that is a number.
RANGES: Mapping[str, tuple[float, float]] = {
    "panic-window-percentage": (1, 100),
    "panic-threshold-percentage": (110, 1000),
    "target-utilization-percentage": (1, 100),
}
LEAST_TARGET = 0.01
#: The least of an annotation that is a Go duration, and whether it must be whole seconds.
DURATIONS: Mapping[str, tuple[str, bool]] = {
    "window": ("6s", True),
    "scale-down-delay": ("0s", True),
    "scale-to-zero-pod-retention-period": ("0s", False),
}
LONGEST = "1h0m0s"
NAMES = (
    *("class", "metric", "target", "target-burst-capacity", "metric-aggregation-algorithm"),
    *("min-scale", "max-scale", "initial-scale", "activation-scale"),
    *RANGES,
    *DURATIONS,
)
_INT32 = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)

_Setting = float | int | str


def kebab(name: str) -> str:
    """The name of an annotation as Knative writes it now: min-scale for minScale."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: "-" + match[1].lower(), name)


def canonical(annotations: Mapping[str, Node]) -> dict[str, Node]:
    """The same annotations, with those of the autoscaler under the names that it has now."""
    return {kebab(k) if k.startswith(AUTOSCALING) else k: node for k, node in annotations.items()}


def read_autoscaling(annotations: Mapping[str, Node], resource: Resource) -> Autoscaling:
    """The autoscaling of a revision with these canonical annotations; not yet its replicas.

    Raises InvalidManifest for a value that Knative refuses, an autoscaler that is not here, and an
    annotation of this domain that does not exist, which Knative would silently ignore.
    """
    read: dict[str, _Setting] = {}
    for key, node in annotations.items():
        if not key.startswith(AUTOSCALING):
            continue
        name = key.removeprefix(AUTOSCALING)
        if name == "class":
            _check_class(node)
        elif name == "metric-aggregation-algorithm":
            _check_algorithm(node, resource)
        elif name in _READERS:
            field, reader = _READERS[name]
            read[field] = reader(node)
        else:
            hint = did_you_mean(name, NAMES)
            raise node.wrong(f"no such annotation; Knative would ignore it{hint}")
    low, high = read.get("min_scale", 0), read.get("max_scale", 0)
    if high and isinstance(high, int) and isinstance(low, int) and high < low:
        raise annotations[MAX_SCALE].wrong(f"max-scale={high} is less than min-scale={low}")
    return replace(Autoscaling(), **read)  # type: ignore[arg-type]


def metric(node: Node) -> Literal["concurrency", "rps"]:
    """What the autoscaler counts; cpu and memory belong to another autoscaler."""
    text = node.text()
    if text in ("cpu", "memory"):
        raise node.wrong(
            f"not honoured on this machine: {text} is scaled by the HPA, which has no zero: "
            "write concurrency or rps"
        )
    if text == "concurrency":
        return "concurrency"
    if text == "rps":
        return "rps"
    raise node.wrong(f"invalid value: {text}: must be concurrency or rps")


def _whole(node: Node) -> int:
    """A 32-bit whole number that is not negative."""
    text = node.text()
    if not _WHOLE.fullmatch(text):
        raise node.wrong(f"invalid value: {text}")
    if not 0 <= int(text) <= _INT32:
        raise node.wrong(f"expected 0 <= {text} <= {_INT32}")
    return int(text)


def _number(node: Node) -> float:
    text = node.text()
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise node.wrong(f"invalid value: {text}")
    return float(text)


def _target(node: Node) -> float:
    value = _number(node)
    if value < LEAST_TARGET:
        raise node.wrong(f"target {node.text()} should be at least {LEAST_TARGET}")
    return value


def _burst_capacity(node: Node) -> float:
    value = _number(node)
    if value < 0 and value != -1:
        raise node.wrong(f"invalid value: {node.text()}: must be -1 (no bound), 0 or more")
    return value


def _activation_scale(node: Node) -> int:
    value = _whole(node)
    if value < 2:
        raise node.wrong(f"activation-scale={value} must be greater than 1")
    return value


def _range(name: str, unit: float = 1) -> Callable[[Node], float]:
    """A reader of the number `name`, in units of `unit`."""
    least, most = RANGES[name]

    def read(node: Node) -> float:
        value = _number(node)
        if not least <= value <= most:
            raise node.wrong(f"expected {least:g} <= {node.text()} <= {most:g}")
        return value / unit

    return read


def _duration(name: str) -> Callable[[Node], float]:
    """A reader of the duration `name`."""
    least, whole_seconds = DURATIONS[name]

    def read(node: Node) -> float:
        seconds = read_seconds(node, go_duration)
        if not go_duration(least) <= seconds <= go_duration(LONGEST):
            raise node.wrong(f"expected {least} <= {node.text()} <= {LONGEST}")
        if whole_seconds and not seconds.is_integer():
            raise node.wrong("must be specified with at most second precision")
        return seconds

    return read


def _check_class(node: Node) -> None:
    if node.text() not in ("kpa.autoscaling.knative.dev", "kpa"):
        raise node.wrong(
            f"not honoured on this machine: {node.text()}: only kpa.autoscaling.knative.dev is"
        )


def _check_algorithm(node: Node, resource: Resource) -> None:
    if node.one_of("linear", "weightedExponential", "weighted-exponential") != "linear":
        resource.leave_out(node, "load is averaged evenly over the window")


# The field of `Autoscaling` that an annotation sets, and what reads its value.
_READERS: Mapping[str, tuple[str, Callable[[Node], _Setting]]] = {
    "metric": ("metric", metric),
    "target": ("target", _target),
    "target-utilization-percentage": (
        "target_utilization",
        _range("target-utilization-percentage", 100),
    ),
    "target-burst-capacity": ("target_burst_capacity", _burst_capacity),
    "min-scale": ("min_scale", _whole),
    "max-scale": ("max_scale", _whole),
    "initial-scale": ("initial_scale", _whole),
    "activation-scale": ("activation_scale", _activation_scale),
    "panic-window-percentage": ("panic_window_percentage", _range("panic-window-percentage")),
    "panic-threshold-percentage": (
        "panic_threshold_percentage",
        _range("panic-threshold-percentage"),
    ),
    "window": ("window_s", _duration("window")),
    "scale-down-delay": ("scale_down_delay_s", _duration("scale-down-delay")),
    "scale-to-zero-pod-retention-period": (
        "scale_to_zero_pod_retention_s",
        _duration("scale-to-zero-pod-retention-period"),
    ),
}
