"""What ends a request from outside: its client went away, or its time is up.

A service has three clocks on one request, as Knative's activator runs them. total: from arrival,
held time included (checklist A2, A5). response start: until the first byte of the answer (A3).
idle: since the last byte, and before the first one since arrival (A4). Source: knative/serving
pkg/http/handler/timeout.go.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

from relume.base.clock import Clock
from relume.base.interrupt import Interruptible


class Cut(StrEnum):
    """Why a request was ended before it was done."""

    DISCONNECTED = "disconnected"
    TIMED_OUT = "timed-out"


class Cutoff(Interruptible[Cut]):
    """A block that another callback can leave, once, with a reason."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return self._interrupted() and (kind is None or issubclass(kind, asyncio.CancelledError))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 switches one off."""

    total_s: float
    response_start_s: float = 0.0
    idle_s: float = 0.0


class RequestClocks:
    """Runs the clocks of one request and trips its cutoff."""

    def __init__(
        self, timeouts: Timeouts, clock: Clock, cutoff: Cutoff, since: float | None = None
    ) -> None:
        """since: when the request arrived (monotonic seconds); None: now."""
        passed_s = 0.0 if since is None else clock.monotonic() - since
        self._idle_s = timeouts.idle_s
        self._clock = clock
        self._cutoff = cutoff
        self._wrote_at: float | None = None
        limits: dict[Callable[[], None], float] = {
            self._expire: timeouts.total_s,
            self._check_start: timeouts.response_start_s,
            self._check_idle: timeouts.idle_s,
        }
        self._timers = {
            act: clock.call_later(s - passed_s, act) for act, s in limits.items() if s > 0
        }

    def wrote(self) -> None:
        """A part of the answer went out."""
        self._wrote_at = self._clock.monotonic()

    def cancel(self) -> None:
        """Stop the clocks."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()  # its keys refer to this object: no cycle is left to be collected

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
            again = self._clock.call_later(self._idle_s - quiet, self._check_idle)
            self._timers[self._check_idle] = again
