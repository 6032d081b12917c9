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
        loop = task.get_loop()
        watch = _of_thread.watch
        if watch is None or watch.loop is not loop:
            watch = _of_thread.watch = _Watch(loop)
        self.ends = loop.time() + self._seconds
        watch.limits.add(self)
        if self.ends < watch.looks_at:
            watch.look_at(self.ends)
        self._watch = watch

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
        self.loop = loop
        self.looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.looks_at = moment
        self._timer = None if moment == math.inf else self.loop.call_at(moment, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        late = [each for each in self.limits if each.ends <= now]
        for limit in sorted(late, key=lambda each: each.ends):
            self.limits.discard(limit)
            limit.end()
        self.look_at(min((each.ends for each in self.limits), default=math.inf))


class _OfThread(threading.local):
    """A thread has one event loop at a time."""

    watch: _Watch | None = None


_of_thread = _OfThread()
