"""How far the preparation of a model is: a bar in a terminal, one line a step in a pipe."""

import contextlib
from collections.abc import Iterator

from rich.progress import (
    BarColumn,
    DownloadColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars

from relume.cli.screen import Screen
from relume.runtimes.models import StoreProgress


@contextlib.contextmanager
def watching(screen: Screen, name: str) -> Iterator[StoreProgress]:
    """A watcher to hand to the model store, shown for as long as the block runs."""
    if not screen.terminal:
        yield StepLines(screen, name)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=screen.console, transient=True) as bars:
        yield StepBars(bars, name)


class StepBars:
    """One bar for each step; a finished step is full."""

    def __init__(self, bars: Bars, name: str) -> None:
        self._bars = bars
        self._name = name
        self._task: TaskID | None = None

    def begin(self, step: str, total: int | None) -> None:
        self._finish()
        self._task = self._bars.add_task(f"{self._name}: {step}", total=total)

    def advance(self, done: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, done)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._bars.tasks[self._task]
            done = task.total if task.total is not None else max(task.completed, 1)
            self._bars.update(self._task, total=done, completed=done)


class StepLines:
    """One line for each step, for logs."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name

    def begin(self, step: str, total: int | None) -> None:
        size = f" ({total / 1e6:,.0f} MB)" if total else ""
        self._screen.line(f"{self._name}: {step}{size}")

    def advance(self, done: int) -> None:
        """Do nothing: in a pipe only whole steps are shown."""
