"""What is shown while a command waits for a cluster, and how a claim is explained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.status import Status
from rich.text import Text

from relume.cli.screen import Screen, printable

if TYPE_CHECKING:
    from relume.cluster.apply.waiting import Tone
    from relume.cluster.claims.explain import ClaimReport

_STYLES = {"": "", "good": "green", "bad": "bold red", "worth a look": "yellow"}
_ANSWERS = {"satisfiable": "green", "undecided": "yellow"}


@contextmanager
def showing(screen: Screen) -> Iterator["ScreenProgress"]:
    """A Progress on `screen`: a spinner in a terminal, and lines in a pipe."""
    if not screen.terminal:
        yield ScreenProgress(screen, None)
        return
    with screen.console.status("", spinner="dots") as status:
        yield ScreenProgress(screen, status)


class ScreenProgress:
    """Lines for what happened, and below them what the command waits for."""

    def __init__(self, screen: Screen, status: Status | None) -> None:
        self._screen, self._status = screen, status
        self._doing = ""

    def now(self, doing: str) -> None:
        if self._status is not None:
            self._status.update(Text(printable(doing)))
        elif doing != self._doing:
            self._screen.line(doing)
        self._doing = doing

    def say(self, line: str, tone: "Tone" = "") -> None:
        self._screen.line(line, _STYLES[tone])

    def explain(self, reports: Sequence["ClaimReport"]) -> None:
        for report in reports:
            show_report(self._screen, report)
            self._screen.line()


def show_report(screen: Screen, report: "ClaimReport") -> None:
    """One claim: the answer, then request by request the devices and the clauses."""
    from relume.cluster.claims import wording

    screen.line(wording.headline(report), _ANSWERS.get(report.answer, "red"))
    if report.beside:
        screen.line(f"  {report.beside}", "yellow")
    screen.pairs(wording.witness(report))
    for note in report.unit.notes:
        screen.line(f"  note: {note}", "yellow")
    for one in report.asks:
        screen.line()
        screen.title(wording.ask_title(one))
        screen.table(wording.HEADERS, wording.rows(one))
        screen.line()
        screen.table(wording.CLAUSE_HEADERS, wording.clause_rows(one))
    if report.nodes:
        screen.line()
        screen.table(
            ("nodes", "on", "answer"),
            [(str(len(on)), wording.names(on), reason) for reason, on in report.nodes],
        )
