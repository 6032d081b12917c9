"""How long events took from one moment to a later one, joined by their numbers."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from processes import MeasurementFailed


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds: the median, and what 99 of 100 events did not exceed."""

    p50_ms: float
    p99_ms: float


def latency(sent: "array[float]", arrived: "array[float]") -> Latency:
    """From moments of the monotonic clock, in the order of the numbers.

    Raises MeasurementFailed when an event has not arrived.
    """
    if len(arrived) != len(sent) or not all(arrived):
        came = sum(map(bool, arrived))
        raise MeasurementFailed(f"{came:,} of {len(sent):,} events arrived")
    return percentiles([(b - a) * 1000 for a, b in zip(sent, arrived, strict=True)])


def percentiles(times_ms: Sequence[float]) -> Latency:
    """The percentiles of these milliseconds, at least one."""
    ordered = sorted(times_ms)
    return Latency(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)])
