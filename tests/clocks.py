"""Clocks that several suites set."""

from relume.eventing.clock import SystemClock


class LaterClock(SystemClock):
    """The machine's own, and on request later: what is stored gets old at once."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s
