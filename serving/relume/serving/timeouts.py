"""A service's three clocks on one request, as Knative's activator runs them.

total: from arrival, held time included (checklist A2, A5). response start: until the first byte of
the answer (A3). idle: since the last byte, and before the first one since arrival (A4). Source:
knative/serving pkg/http/handler/timeout.go.
"""

from dataclasses import dataclass

from relume.base.clock import Clock, Timer
from relume.serving.cutoff import Cut, Cutoff


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 switches one off."""

    total_s: float
    response_start_s: float = 0.0
    idle_s: float = 0.0


class Watch:
    """Runs the clocks of one request and trips its cutoff."""

    def __init__(self, timeouts: Timeouts, clock: Clock, cutoff: Cutoff) -> None:
        self._idle_s = timeouts.idle_s
        self._clock = clock
        self._cutoff = cutoff
        self._wrote_at: float | None = None
        self._timers: list[Timer] = []
        self._idle_timer: Timer | None = None
        if timeouts.total_s > 0:
            self._timers.append(clock.call_later(timeouts.total_s, self._expire))
        if timeouts.response_start_s > 0:
            self._timers.append(clock.call_later(timeouts.response_start_s, self._check_start))
        if timeouts.idle_s > 0:
            self._idle_timer = clock.call_later(timeouts.idle_s, self._check_idle)

    def wrote(self) -> None:
        """A part of the answer went out."""
        self._wrote_at = self._clock.monotonic()

    def cancel(self) -> None:
        """Stop the clocks."""
        for timer in self._timers:
            timer.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    def _expire(self) -> None:
        self._cutoff.trip(Cut.TIMED_OUT)

    def _check_start(self) -> None:
        if self._wrote_at is None:
            self._expire()

    def _check_idle(self) -> None:
        quiet = self._idle_s
        if self._wrote_at is not None:
            quiet = self._clock.monotonic() - self._wrote_at
        if quiet >= self._idle_s:
            self._expire()
        else:
            self._idle_timer = self._clock.call_later(self._idle_s - quiet, self._check_idle)
