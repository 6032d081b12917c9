"""How long a plane that was told to stop may still take."""

import asyncio
import contextlib
from collections.abc import Coroutine


class Grace:
    """A span that starts at the first signal and is over at once at the second."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._hurry = asyncio.Event()

    @property
    def hurried(self) -> bool:
        return self._hurry.is_set()

    def hurry(self) -> None:
        """Nothing may take time any more."""
        self._hurry.set()

    def left(self) -> float:
        """Seconds left, 0 when it is over; the first call starts the clock."""
        if self._hurry.is_set():
            return 0.0
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + self._seconds
        return max(0.0, self._deadline - now)

    async def bound(self, work: Coroutine[object, object, None]) -> None:
        """Run a step of the shutdown; cut it short when there is no time any more.

        The step bounds itself with `left` and is cancelled only by `hurry`. What it raises is
        raised here.
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
