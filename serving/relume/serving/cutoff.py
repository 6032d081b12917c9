"""Ending a request from outside: its client went away, or its time is up."""

import asyncio
from enum import StrEnum
from types import TracebackType
from typing import Self


class Cut(StrEnum):
    """Why a request was ended before it was done."""

    DISCONNECTED = "disconnected"
    TIMED_OUT = "timed-out"


class Cutoff:
    """A block that another callback can leave, once, with a reason.

    What asyncio.timeout() does for the loop's clock, for any cause: `trip` cancels the task that is
    inside the block, and the block swallows exactly that cancellation. A cancellation from anywhere
    else passes through.
    """

    def __init__(self) -> None:
        self.cut: Cut | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def trip(self, cut: Cut) -> None:
        """Leave the block; nothing if it was left already."""
        if self._task is not None and self.cut is None:
            self.cut = cut
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        task, self._task = self._task, None
        assert task is not None
        if self.cut is None:
            return False
        mine = task.uncancel() <= self._cancelling
        return mine and (kind is None or issubclass(kind, asyncio.CancelledError))
