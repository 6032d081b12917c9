"""How many replicas a revision should have: Knative's pod autoscaler (KPA), without Knative.

Pure: the caller gives the time and the number of ready replicas. The formulas and their order are
those of knative/serving pkg/autoscaler/scaling/autoscaler.go and
pkg/reconciler/autoscaling/resources/target.go; the defaults are config-autoscaler's. Checklist A14.
"""

import math
from dataclasses import dataclass

from relume.config import Autoscaling
from relume.serving.windows import AverageWindow, MaxWindow

CONCURRENCY_TARGET_DEFAULT = 100.0
RPS_TARGET_DEFAULT = 200.0
MIN_TARGET = 0.01
_INT32 = 2**31 - 1  # Knative's figures have no more bits; a very large target would make infinity


def total_capacity(metric: str, container_concurrency: int, target: float | None) -> float:
    """Return what one replica is meant to bear, in units of the metric.

    That is the annotation's target, held below containerConcurrency.
    """
    if metric == "rps":
        return RPS_TARGET_DEFAULT if target is None else target
    if target is None:
        return float(container_concurrency) or CONCURRENCY_TARGET_DEFAULT
    return min(target, container_concurrency) if container_concurrency else target


@dataclass(frozen=True, slots=True)
class Decision:
    """What the metrics ask for, before bounds and the rules about zero."""

    desired: int
    excess_burst_capacity: int
    """Below 0, the activator stays in the request path."""
    panicking: bool


class Autoscaler:
    """One revision's metrics and panic state."""

    def __init__(self, knobs: Autoscaling, container_concurrency: int = 0) -> None:
        self.metric = knobs.metric
        self._knobs = knobs
        self._total = total_capacity(knobs.metric, container_concurrency, knobs.target)
        self.target = max(MIN_TARGET, self._total * knobs.target_utilization)
        """What one replica should carry on average."""
        panic_s = knobs.window_s * knobs.panic_window_percentage / 100
        self.panic_window_s = max(1.0, math.floor(panic_s + 0.5))
        """The short window, in whole seconds and at least one."""
        self.forget()

    def forget(self) -> None:
        """Start over as for a new revision: no samples, no panic."""
        self._stable = AverageWindow(self._knobs.window_s)
        self._panic = AverageWindow(self.panic_window_s)
        delay = self._knobs.scale_down_delay_s
        self._delay = MaxWindow(delay) if delay > 0 else None
        self._panic_since: float | None = None
        self._panic_floor = 0

    def record(self, now: float, value: float) -> None:
        """Add one second's average concurrency, or its number of requests (metric rps)."""
        self._stable.record(now, value)
        self._panic.record(now, value)

    def decide(self, now: float, ready: int) -> Decision | None:
        """Return the wish at `now` with `ready` replicas, or None without data to decide on."""
        if self._stable.is_empty(now):
            return None
        ready1 = max(1, ready)
        panic_value = self._panic.average(now)
        stable_asks = math.ceil(self._stable.average(now) / self.target)
        panic_asks = math.ceil(panic_value / self.target)
        self._update_panic(
            now, over=panic_asks / ready1 >= self._knobs.panic_threshold_percentage / 100
        )
        desired = self._bounded(stable_asks, ready1)
        if self._panic_since is not None:
            desired = max(desired, self._bounded(panic_asks, ready1), self._panic_floor)
            self._panic_floor = desired
        if self._delay is not None:
            desired = self._delay.record(now, desired)
        burst = self._excess_burst_capacity(ready, panic_value)
        return Decision(desired, burst, self._panic_since is not None)

    def _bounded(self, asks: int, ready1: int) -> int:
        """Return `asks` within the scale rates, lifted to activation-scale unless it is zero."""
        knobs = self._knobs
        most = math.ceil(knobs.max_scale_up_rate * ready1)
        least = math.floor(ready1 / knobs.max_scale_down_rate)
        bounded = min(max(asks, least), most)
        return max(bounded, knobs.activation_scale) if asks > 0 else bounded

    def _update_panic(self, now: float, *, over: bool) -> None:
        if over:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + self._knobs.window_s < now:
            self._panic_since = None
            self._panic_floor = 0

    def _excess_burst_capacity(self, ready: int, panic_value: float) -> int:
        burst = self._knobs.target_burst_capacity
        if burst == 0:
            return 0
        if burst < 0:
            return -1
        excess = ready * self._total - burst - panic_value
        return math.floor(max(-_INT32, min(excess, _INT32)))
