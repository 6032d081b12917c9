"""How `relume doctor` prints what it found, for a person."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from relume.cli.screen import Screen, printable

if TYPE_CHECKING:
    from relume.cluster.doctor import Diagnosis
    from relume.cluster.findings import Finding

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
_VERDICTS = {"accepted": "green", "refused": "bold red", "pruned": "bold magenta"}


def show_document(screen: Screen, one: "Diagnosis") -> None:
    """One document: its verdict on a line, then what was found."""
    name = "/".join(filter(None, (one.namespace, one.name)))
    head = Text.assemble(
        (f"{one.verdict:<8}", _VERDICTS[one.verdict]),
        "  ",
        (printable(f"{one.kind or 'document'} {name}".strip()), "bold"),
        (printable(f"  {one.file}:{one.line}"), "dim"),
    )
    screen.draw_line(head)
    show_findings(screen, one.findings)


def show_findings(screen: Screen, findings: Iterable["Finding"]) -> None:
    """Findings, indented: what and where, then why, then the fix."""
    for finding in findings:
        place = f":{finding.line}" if finding.line else ""
        line = Text.assemble(
            "  ",
            (f"{finding.severity:<7}", _STYLES[finding.severity]),
            " ",
            (printable(f"{finding.field or '-'}{place}"), "cyan"),
            "  ",
            (finding.reason, "dim"),
        )
        screen.draw_line(line)
        screen.line(f"          {finding.message}")
        if finding.severity != "info":
            screen.line(f"          {finding.why}", "dim")
        screen.line(f"          → {finding.fix}", "green" if finding.severity == "error" else "")


def show_summary(screen: Screen, diagnoses: Sequence["Diagnosis"]) -> None:
    """One line that counts, and one that names the page of reasons."""
    verdicts = Counter(one.verdict for one in diagnoses)
    graves = Counter(f.severity for one in diagnoses for f in one.findings)
    total = len(diagnoses)
    screen.line()
    counts = [f"{verdicts[v]} {v}" for v in ("accepted", "refused", "pruned") if verdicts[v]]
    counts += [f"{graves[s]} {_many(s, graves[s])}" for s in ("error", "warning") if graves[s]]
    screen.line(f"{total} {_many('document', total)}: {', '.join(counts)}", "bold")
    if graves:
        screen.line("every reason is explained in cluster/DOCTOR.md", "dim")


def _many(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
