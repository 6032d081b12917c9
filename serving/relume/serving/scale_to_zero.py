"""When a wish becomes a scale: bounds, initial scale, and the careful way to zero.

Pure. The rules are those of knative/serving pkg/reconciler/autoscaling/kpa (scaler.go
handleScaleToZero, kpa.go computeActiveCondition); checklist A9, A14 (bounds) and A15.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

ACTIVATION_BUFFER_S = 30.0
UNKNOWN = -1


class Activity(StrEnum):
    """The PodAutoscaler's Active condition: False, Unknown, True."""

    INACTIVE = "inactive"
    ACTIVATING = "activating"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class ScaleSpec:
    """The bounds and periods of one revision; seconds, and replicas."""

    min_scale: int = 0
    max_scale: int = 0
    """0 is without limit."""
    initial_scale: int = 1
    window_s: float = 60.0
    grace_s: float = 30.0
    retention_s: float = 0.0
    progress_deadline_s: float = 600.0
    always_proxied: bool = False
    """target-burst-capacity -1: the activator never leaves the path."""

    def bounded(self, wish: int, least: int) -> int:
        """Return `wish` within [least, max]."""
        if wish < least:
            return least
        return min(wish, self.max_scale) if self.max_scale else wish


class Scaler:
    """One revision's way between zero and its wish."""

    def __init__(self, spec: ScaleSpec, now: float) -> None:
        self.spec = spec
        self.timed_out = False
        """The last way to zero was a load that missed the progress deadline (A9)."""
        self._initialised = spec.initial_scale == 0 and spec.min_scale == 0
        self.activity = Activity.INACTIVE if self._initialised else Activity.ACTIVATING
        self._since = now
        # A revision begins behind the activator, so it may go to zero the first time without the
        # wait for a change of the network.
        self._proxied_since: float | None = -math.inf

    def forget(self, now: float) -> None:
        """The revision is at zero for a reason that no metric shows: a crash, a cancelled load."""
        self._initialised = True
        self._become(Activity.INACTIVE, now)
        if self._proxied_since is None:
            self._proxied_since = now

    def activated(self, now: float) -> None:
        """The revision is wanted now though no request is there; its window begins anew."""
        if self.activity is Activity.INACTIVE:
            self.activity = Activity.ACTIVATING
        self._since = now

    def step(self, now: float, wish: int | None, burst: int, ready: int) -> int | None:
        """Return the scale to apply now, or None to leave it as it is.

        wish: the autoscaler's decision, None without data. burst: its excess burst capacity.
        """
        want, apply = self._want(now, UNKNOWN if wish is None else wish)
        self._follow_proxy_mode(now, want, burst)
        self._follow_activity(now, want, ready)
        return want if apply and want != UNKNOWN else None

    def _want(self, now: float, wish: int) -> tuple[int, bool]:
        spec = self.spec
        if wish == UNKNOWN and self.activity is not Activity.ACTIVATING:
            return UNKNOWN, False
        least = spec.min_scale
        if spec.initial_scale > 1 and not self._initialised:
            least = max(least, spec.initial_scale)
        bounded = spec.bounded(wish, least)
        if bounded != 0:
            return bounded, True
        return self._want_zero(now)

    def _want_zero(self, now: float) -> tuple[int, bool]:
        spec = self.spec
        elapsed = now - self._since
        if self.activity is Activity.ACTIVATING:
            return (0, True) if self._is_late(now) else (UNKNOWN, False)
        if self.activity is Activity.ACTIVE:
            # First marked inactive; the next step may remove the last replica.
            return (0, False) if elapsed >= spec.window_s else (1, True)
        if elapsed >= max(spec.grace_s, spec.retention_s):
            return 0, True
        if elapsed < spec.retention_s:
            return 0, False
        proxied_for = 0.0 if self._proxied_since is None else now - self._proxied_since
        return 0, spec.always_proxied or proxied_for >= spec.grace_s

    def _follow_proxy_mode(self, now: float, want: int, burst: int) -> None:
        if want > 0 and burst >= 0:
            self._proxied_since = None
        elif self._proxied_since is None:
            self._proxied_since = now

    def _follow_activity(self, now: float, want: int, ready: int) -> None:
        spec = self.spec
        if ready > 0 and self._is_late(now):
            self._initialised = True  # initial-scale may be out of reach: memory for it is missing
        enough = max(spec.min_scale, 1 if self._initialised else max(spec.initial_scale, 1))
        if ready >= enough:
            self._initialised = True
        if want == 0:
            self.timed_out = self.activity is Activity.ACTIVATING
            self._become(Activity.INACTIVE, now)
        elif want > 0 or self.activity is not Activity.INACTIVE:
            self.timed_out = False
            self._become(Activity.ACTIVE if ready >= enough else Activity.ACTIVATING, now)

    def _is_late(self, now: float) -> bool:
        """Whether an activation has missed the progress deadline."""
        late_s = self.spec.progress_deadline_s + ACTIVATION_BUFFER_S
        return self.activity is Activity.ACTIVATING and now - self._since >= late_s

    def _become(self, activity: Activity, now: float) -> None:
        if self.activity is not activity:
            self.activity = activity
            self._since = now
