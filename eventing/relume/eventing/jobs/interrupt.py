"""A block of code that a timer or another task can end with an error of its own."""

import asyncio
from types import TracebackType
from typing import Self


class Interrupt:
    """Ends the block that runs inside it, once, with the first error it is given.

    It is what `asyncio.timeout()` is, for any cause and any clock: `trip` cancels the task inside
    the block, and the block raises the error instead of that cancellation. A cancellation from
    elsewhere passes through.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def trip(self, error: Exception) -> None:
        """End the block with `error`; does nothing outside it, or when it is ending already."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._error = None
        self._cancelling = self._task.cancelling()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        if self._error is not None and task.uncancel() <= self._cancelling:
            raise self._error from None
