"""The phases of a cold start, as bars that follow each other on one time axis."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from relume.cli.reports import PHASES, ColdStart
from relume.cli.screen import Screen

WAYS = {
    "template": "forked from the warm template",
    "fresh": "a fresh process",
}


def show_cold_start(screen: Screen, cold_start: ColdStart) -> None:
    """One headline and one line for each phase, in ms."""
    phases = in_order(cold_start.phases)
    total = cold_start.total if cold_start.total is not None else sum(phases.values())
    facts = [f"{total:,.0f} ms", WAYS.get(cold_start.started or "", "")]
    if cold_start.outcome != "ready":
        facts.append(cold_start.reason or cold_start.outcome)
    screen.title(f"cold start of {cold_start.service}: {', '.join(filter(None, facts))}")
    for text in phase_lines(phases, bars=screen.terminal, width=bar_width(screen)):
        screen.draw_line(text)


def find_cold_start(
    ledger: Sequence[ColdStart], event_id: str, answer: Mapping[str, object] | None
) -> ColdStart | None:
    """The cold start that an event waited for: its own, or the one that its answer tells of."""
    for entry in reversed(ledger):
        if entry.triggered_by == event_id:
            return entry
    if answer is None or not answer.get("coldstartms"):
        return None
    service = str(answer.get("source", "")).rpartition("/")[2]
    return next((entry for entry in reversed(ledger) if entry.service == service), None)


def in_order(phases: Mapping[str, float]) -> dict[str, float]:
    """The phases that were measured, in the order in which they happen."""
    return {name: phases[name] for name in PHASES if name in phases}


def bar_width(screen: Screen) -> int:
    """Columns that are left for bars beside names and numbers."""
    return max(10, min(60, screen.console.width - 30))


def phase_lines(phases: Mapping[str, float], *, bars: bool, width: int = 40) -> list[Text]:
    """A line for each phase: name, milliseconds, and a bar from its start to its end."""
    whole = sum(phases.values()) or 1.0
    lines = []
    before = 0.0
    for name, ms in phases.items():
        label = name.replace("_", " ")
        line = Text.assemble("  ", (label.ljust(12), "dim"), f"{ms:>9,.0f} ms")
        if bars:
            start = min(round(before / whole * width), width - 1)
            length = max(1, min(round(ms / whole * width), width - start))
            line.append("  " + " " * start)
            line.append("━" * length, style="yellow" if ms / whole >= 0.25 else "cyan")
        lines.append(line)
        before += ms
    return lines
