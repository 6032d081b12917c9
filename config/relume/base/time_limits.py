"""How long a block may take, for blocks that are entered thousands of times a second.

`asyncio.timeout` sets a timer for each block, which costs more than most of the blocks. Here all
blocks of an event loop share one timer.
"""

import asyncio
import math
import threading
from types import TracebackType


class TimeLimit:
    """A block that is cancelled after so many seconds, and then raises TimeoutError.

    As with `asyncio.timeout`, the task is cancelled in the block, and a cancellation from elsewhere
    goes on as such.
    """

    __slots__ = ("_cancelling", "_seconds", "_task", "_watch", "ends", "is_late")
    ends: float  # a moment of the event loop's clock

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.is_late = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._watch = _Watch.of(task.get_loop())
        self._watch.add(self, self._seconds)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self._watch.limits.discard(self)
        if self.is_late:
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise TimeoutError from error

    def end(self) -> None:
        self.is_late = True
        self._task.cancel()


class _Watch:
    """The time limits of one event loop that run now; `_look` ends those that are late."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.limits: set[TimeLimit] = set()
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> "_Watch":
        watch: _Watch | None = getattr(_of_thread, "watch", None)
        if watch is None or watch._loop is not loop:
            watch = _of_thread.watch = _Watch(loop)
        return watch

    def add(self, limit: TimeLimit, seconds: float) -> None:
        limit.ends = self._loop.time() + seconds
        self.limits.add(limit)
        if limit.ends < self._looks_at:
            self._look_at(limit.ends)

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = moment
        self._timer = None if moment == math.inf else self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        late = [each for each in self.limits if each.ends <= now]
        for limit in sorted(late, key=lambda each: each.ends):
            self.limits.discard(limit)
            limit.end()
        self._look_at(min((each.ends for each in self.limits), default=math.inf))


# A thread has one event loop at a time.
_of_thread = threading.local()
