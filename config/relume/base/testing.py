"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from relume.base.clock import Timer


@dataclass(order=True, slots=True)
class _VirtualTimer:
    when: float
    order: int
    callback: Callable[[], object] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """A `relume.base.clock.Clock` whose seconds pass in `advance`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._timers: list[_VirtualTimer] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        timer = _VirtualTimer(self._elapsed + max(delay_s, 0.0), next(self._order), callback)
        heapq.heappush(self._timers, timer)
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await asyncio.sleep(0)
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    @property
    def sleeping(self) -> list[float]:
        """For how many more seconds each timer and sleeper waits, the shortest first."""
        return sorted(t.when - self._elapsed for t in self._timers if not t.cancelled)

    async def advance(self, seconds: float) -> None:
        """Move time on; every timer runs at its own moment, in order, until nothing is ready."""
        target = self._elapsed + seconds
        await settle()
        while self._timers and self._timers[0].when <= target:
            timer = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, timer.when)
            if not timer.cancelled:
                timer.callback()
                await settle()
        self._elapsed = target
        await settle()


async def settle() -> None:
    """Let everything run that needs no time and no network.

    After 20 turns of the loop, every task that was woken waits for something else.
    """
    for _ in range(20):
        await asyncio.sleep(0)
