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
_VERDICTS = {
    "accepted": "green",
    "fields-only": "yellow",
    "unchecked": "yellow",
    "refused": "bold red",
    "pruned": "bold magenta",
}
# What the words mean that say how little was looked at, in the summary.
_MEANING = {
    "fields-only": "fields-only: the fields are right; rules beyond them were not judged",
    "unchecked": "unchecked: nothing but the metadata was looked at",
}


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
    # That only the fields of a kind were judged is what the verdict says already.
    told = [f for f in one.findings if (f.reason, f.field) != ("fields-only", "kind")]
    show_findings(screen, told)


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
    """One line that counts, what the rarer verdicts mean, and the name of the page of reasons."""
    from relume.cluster.doctor import count_verdicts

    verdicts = count_verdicts(diagnoses)
    graves = Counter(f.severity for one in diagnoses for f in one.findings)
    total = len(diagnoses)
    screen.line()
    counts = [f"{number} {verdict}" for verdict, number in verdicts.items() if number]
    counts += [f"{graves[s]} {_many(s, graves[s])}" for s in ("error", "warning") if graves[s]]
    screen.line(f"{total} {_many('document', total)}: {', '.join(counts)}", "bold")
    for verdict, meaning in _MEANING.items():
        if verdicts.get(verdict):
            screen.line(f"{meaning}: try kubectl apply --dry-run=server", "dim")
    if graves:
        screen.line("every reason is explained in cluster/DOCTOR.md", "dim")


def _many(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
