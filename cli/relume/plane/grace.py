"""How much time a plane that was told to stop may still take."""

import asyncio
import contextlib
from collections.abc import Coroutine


class Grace:
    """A span of time that starts at the first signal; the second signal ends it at once."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._hurry = asyncio.Event()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    def hurry(self) -> None:
        """End the span now."""
        self._hurry.set()

    def left(self) -> float:
        """Seconds that are left, 0 when the span is over; the first call starts it."""
        if self._hurry.is_set():
            return 0.0
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._seconds
        return max(0.0, self._deadline - now)

    async def bound(self, work: Coroutine[object, object, None]) -> None:
        """Run a step of the shutdown, and cancel it when `hurry` is called.

        The step bounds its own time with `left`. What it raises is raised here.
        """
        task = asyncio.ensure_future(work)
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            hurry.cancel()
