"""How many deliveries of one Trigger run at once; the bound may change while they run."""

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """A semaphore whose size is asked for anew each time; first come, first served."""

    def __init__(self, size: Callable[[], int]) -> None:
        self._size = size
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def size(self) -> int:
        """The bound of this moment."""
        return self._size()

    @property
    def free(self) -> int:
        """Slots nobody has and nobody waits for; negative after the bound was lowered."""
        return self._size() - self.taken - len(self._waiters)

    async def acquire(self) -> None:
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
        while self._waiters and self.taken < self._size():
            granted = self._waiters.popleft()
            if not granted.done():
                self.taken += 1
                granted.set_result(None)
