"""A block of code that a timer or another task can end."""

import asyncio
from types import TracebackType
from typing import Generic, Self, TypeVar

Cause = TypeVar("Cause")


class Interruptible(Generic[Cause]):
    """A block that `trip` ends, once, with the first cause that it is given.

    It is what `asyncio.timeout()` is, for any cause and any clock: `trip` cancels the task inside
    the block. A subclass says in `__exit__` what becomes of that cancellation, and only of that
    one: a cancellation from elsewhere passes through.
    """

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0

    def trip(self, cause: Cause) -> None:
        """End the block; does nothing outside it, or when it is ending already."""
        if self._task is not None and self.cause is None:
            self.cause = cause
            self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        assert self._task is not None
        self.cause = None
        self._cancelling = self._task.cancelling()
        return self

    def _interrupted(self) -> bool:
        """Whether `trip` has ended the block, and nothing else has; called once, by `__exit__`."""
        task, self._task = self._task, None
        assert task is not None
        return self.cause is not None and task.uncancel() <= self._cancelling


class Interrupt(Interruptible[Exception]):
    """The block raises the error that it is given."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._interrupted() and self.cause is not None:
            raise self.cause from None
