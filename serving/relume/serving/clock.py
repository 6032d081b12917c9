"""The plane's only source of time, so that a test can hold it in its hand."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds for every decision, wall time for people."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def utc(self) -> datetime:
        """Return the wall time, with its zone."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back on the event loop, `delay` seconds from now."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; 0 or less yields once."""
        ...


class AsyncioClock:
    """The running event loop's own time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
