"""How many deliveries of one Trigger run at once; the bound may change while they run."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable


class Slots:
    """A semaphore whose size is asked for anew each time; first come, first served.

    `now` is a clock in seconds that never goes back.
    """

    def __init__(self, size: Callable[[], int], now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._paused_until = -math.inf
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def size(self) -> int:
        """The bound of this moment."""
        return 0 if self._now() < self._paused_until else self._size()

    @property
    def free(self) -> int:
        """Slots nobody has and nobody waits for; negative after the bound was lowered."""
        return self.size - self.taken - len(self._waiters)

    def pause(self, seconds: float) -> None:
        """No more slots for so long; what is under way goes on."""
        self._paused_until = max(self._paused_until, self._now() + seconds)

    async def acquire(self) -> None:
        if self._waiters:
            self.grant()  # a pause may be over
        if self.free > 0:
            self.taken += 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted and cancelled in the same turn
                self.release()
            elif granted in self._waiters:
                self._waiters.remove(granted)
            raise

    def release(self) -> None:
        self.taken -= 1
        self.grant()

    def grant(self) -> None:
        """Give slots to those who wait; call it when the bound may have grown."""
        while self._waiters and self.taken < self.size:
            granted = self._waiters.popleft()
            if not granted.done():
                self.taken += 1
                granted.set_result(None)
