"""How both programs run: one event loop, Ctrl-C that cleans up, errors as one line, progress."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from relume.base.errors import RelumeError
from relume.cli.screen import Screen

INTERRUPTED_EXIT = 130

T = TypeVar("T")


def run(program: str, work: Coroutine[object, object, T]) -> T:
    """Run `work` to its end and return its result.

    SIGINT and SIGTERM cancel it once, and it ends what it started before this exits with 130. A
    deliberate error is one line on stderr and its own exit code.
    """
    try:
        return asyncio.run(_cancellable(work))
    except asyncio.CancelledError:
        raise SystemExit(INTERRUPTED_EXIT) from None
    except (RelumeError, BaseExceptionGroup) as error:
        cause = _deliberate(error)
        if cause is None:
            raise
        print(f"{program}: {cause}", file=sys.stderr)
        raise SystemExit(cause.exit_code) from None


async def _cancellable(work: Coroutine[object, object, T]) -> T:
    task = asyncio.ensure_future(work)
    cancelled = False

    def cancel() -> None:
        nonlocal cancelled
        if not cancelled:  # a second signal must not interrupt the clean-up, which is bounded
            cancelled = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, cancel)
    return await task


def _deliberate(error: BaseException) -> RelumeError | None:
    if isinstance(error, BaseExceptionGroup):
        return next((found for inner in error.exceptions if (found := _deliberate(inner))), None)
    return error if isinstance(error, RelumeError) else None


class Steps:
    """How far a long measurement is, on stderr: a bar in a terminal, a line a step in a pipe."""

    def __init__(self, screen: Screen, progress: Progress | None, total: int) -> None:
        self._screen = screen
        self._progress = progress
        self._total = total
        self._done = -1
        self._task = progress.add_task("", total=total) if progress else None

    def begin(self, step: str) -> None:
        """The step before is done, and this one begins."""
        self._done += 1
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=step, completed=self._done)
        else:
            self._screen.line(f"[{self._done + 1}/{self._total}] {step}")


@contextmanager
def steps(total: int) -> Iterator[Steps]:
    """Shows `total` steps for as long as the block runs."""
    screen = Screen.stderr()
    if not screen.terminal:
        yield Steps(screen, None, total)
        return
    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=screen.console, transient=True) as progress:
        yield Steps(screen, progress, total)
