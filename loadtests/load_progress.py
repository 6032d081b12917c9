"""How far a load test is, on stderr: a bar with the plane's state, or a line each ten seconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from load_plan import Plan
from load_record import Sample
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from relume.cli.screen import Screen

LINE_EVERY_S = 10.0


class Progress:
    """Shows the samples of one test."""

    def __init__(self, screen: Screen, bar: Bar | None, seconds: float) -> None:
        self._screen = screen
        self._bar = bar
        self._task = bar.add_task("", total=seconds) if bar else None
        self._next = 0.0

    def say(self, words: str) -> None:
        """One line that stays."""
        self._screen.line(words)

    def sample(self, sample: Sample, plan: Plan) -> None:
        """The plane as it is now."""
        stage = plan.stage_at(sample.at)
        words = (
            f"{stage.name if stage else 'draining'}: {sample.replicas} replicas ({sample.state}), "
            f"{sample.held} held, {sample.in_flight} in flight, {sample.backlog} events waiting"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=sample.at, description=words)
        elif sample.at >= self._next:
            self._next = sample.at + LINE_EVERY_S
            self._screen.line(f"[{sample.at:.0f}/{plan.seconds:.0f} s] {words}")


@contextmanager
def progress(plan: Plan) -> Iterator[Progress]:
    """Shows the test for as long as the block runs."""
    screen = Screen.stderr()
    if not screen.terminal:
        yield Progress(screen, None, plan.seconds)
        return
    columns = (
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=screen.console, transient=True) as bar:
        yield Progress(screen, bar, plan.seconds)
