"""The `autoscaling.knative.dev/*` annotations: ranges and messages as Knative's webhook has them.

Source: knative/serving pkg/apis/autoscaling; what a real cluster answered is in the tests.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from relume.config.durations import go_duration
from relume.config.fields import Resource, did_you_mean
from relume.config.nodes import Node
from relume.config.resources import Autoscaling

DOMAIN = "autoscaling.knative.dev/"
MIN_SCALE = DOMAIN + "min-scale"
MAX_SCALE = DOMAIN + "max-scale"
_INT32 = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST = ("1h0m0s", 3600.0)
_MIN_TARGET = 0.01

Value = float | int | str


def canonical(annotations: Mapping[str, Node]) -> dict[str, Node]:
    """The same annotations, this domain's as min-scale where Knative also takes minScale."""
    return {_kebab(k) if k.startswith(DOMAIN) else k: node for k, node in annotations.items()}


def read_autoscaling(annotations: Mapping[str, Node], resource: Resource) -> Autoscaling:
    """The autoscaling of a revision with these canonical annotations; not yet its replicas.

    Raises InvalidManifest for a value that Knative refuses, an autoscaler that is not here, and an
    annotation of this domain that does not exist, which Knative would silently ignore.
    """
    read: dict[str, Value] = {}
    for key, node in annotations.items():
        if not key.startswith(DOMAIN):
            continue
        name = key.removeprefix(DOMAIN)
        if name in _READERS:
            field, reader = _READERS[name]
            read[field] = reader(node)
        elif name in _CHECKS:
            _CHECKS[name](node, resource)
        else:
            hint = did_you_mean(name, [*_READERS, *_CHECKS])
            raise node.wrong(f"no such annotation; Knative would ignore it{hint}")
    _check_scales(read, annotations)
    return replace(Autoscaling(), **read)  # type: ignore[arg-type]


def whole(node: Node) -> int:
    """A 32-bit whole number that is not negative."""
    text = node.text()
    if not _WHOLE.fullmatch(text):
        raise node.wrong(f"invalid value: {text}")
    if not 0 <= int(text) <= _INT32:
        raise node.wrong(f"expected 0 <= {text} <= {_INT32}")
    return int(text)


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


def target(node: Node) -> float:
    """What one replica should bear."""
    value = _number(node)
    if value < _MIN_TARGET:
        raise node.wrong(f"target {node.text()} should be at least {_MIN_TARGET}")
    return value


def _number(node: Node) -> float:
    text = node.text()
    if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
        raise node.wrong(f"invalid value: {text}")
    return float(text)


def _between(least: float, most: float) -> Callable[[Node], float]:
    def read(node: Node) -> float:
        value = _number(node)
        if not least <= value <= most:
            raise node.wrong(f"expected {least:g} <= {node.text()} <= {most:g}")
        return value

    return read


def _utilization(node: Node) -> float:
    return _between(1, 100)(node) / 100


def duration(node: Node, *, least: tuple[str, float], whole_seconds: bool) -> float:
    """A Go duration from `least` to an hour."""
    text = node.text()
    try:
        seconds = go_duration(text)
    except ValueError as error:
        raise node.wrong(f"invalid value: {text}: {error}") from error
    if not least[1] <= seconds <= _LONGEST[1]:
        raise node.wrong(f"expected {least[0]} <= {text} <= {_LONGEST[0]}")
    if whole_seconds and not seconds.is_integer():
        raise node.wrong("must be specified with at most second precision")
    return seconds


def _burst_capacity(node: Node) -> float:
    value = _number(node)
    if value < 0 and value != -1:
        raise node.wrong(f"invalid value: {node.text()}: must be -1 (no bound), 0 or more")
    return value


def _activation_scale(node: Node) -> int:
    value = whole(node)
    if value < 2:
        raise node.wrong(f"activation-scale={value} must be greater than 1")
    return value


def _check_class(node: Node, _: Resource) -> None:
    if node.text() not in ("kpa.autoscaling.knative.dev", "kpa"):
        raise node.wrong(
            f"not honoured on this machine: {node.text()}: only kpa.autoscaling.knative.dev is"
        )


def _check_algorithm(node: Node, resource: Resource) -> None:
    if node.one_of("linear", "weightedExponential", "weighted-exponential") != "linear":
        resource.leave_out(node, "load is averaged evenly over the window")


def _check_scales(read: Mapping[str, Value], annotations: Mapping[str, Node]) -> None:
    low, high = read.get("min_scale", 0), read.get("max_scale", 0)
    if high and isinstance(high, int) and isinstance(low, int) and high < low:
        raise annotations[MAX_SCALE].wrong(f"max-scale={high} is less than min-scale={low}")


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: "-" + match[1].lower(), name)


_READERS: Mapping[str, tuple[str, Callable[[Node], Value]]] = MappingProxyType(
    {
        "metric": ("metric", metric),
        "target": ("target", target),
        "target-utilization-percentage": ("target_utilization", _utilization),
        "target-burst-capacity": ("target_burst_capacity", _burst_capacity),
        "window": ("window_s", lambda n: duration(n, least=("6s", 6.0), whole_seconds=True)),
        "panic-window-percentage": ("panic_window_percentage", _between(1, 100)),
        "panic-threshold-percentage": ("panic_threshold_percentage", _between(110, 1000)),
        "min-scale": ("min_scale", whole),
        "max-scale": ("max_scale", whole),
        "initial-scale": ("initial_scale", whole),
        "activation-scale": ("activation_scale", _activation_scale),
        "scale-down-delay": (
            "scale_down_delay_s",
            lambda n: duration(n, least=("0s", 0.0), whole_seconds=True),
        ),
        "scale-to-zero-pod-retention-period": (
            "scale_to_zero_pod_retention_s",
            lambda n: duration(n, least=("0s", 0.0), whole_seconds=False),
        ),
    }
)
_CHECKS: Mapping[str, Callable[[Node, Resource], None]] = MappingProxyType(
    {"class": _check_class, "metric-aggregation-algorithm": _check_algorithm}
)
