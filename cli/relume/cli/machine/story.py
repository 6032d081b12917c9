"""What happened to an event, in words: its stages, its cold start, the event that answered it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rich.text import Text

from relume.base.vocabulary import ERROR, RESPONSE, Json
from relume.cli.machine.reports import ColdStartReport, EventRecord
from relume.cli.screen import Screen, printable

_STAGE_STYLES = {
    "accepted": "blue",
    "delivering": "yellow",
    "delivered": "green",
    "replied": "green",
    "retrying": "magenta",
    "dead-lettered": "bold red",
    "dropped": "bold red",
    "redriven": "blue",
}
# A fork of a template that is loaded takes milliseconds.
_LONG_FORK_MS = 1000.0
_WAYS = {
    "engine": "forked from its loaded engine",
    "template": "forked from the warm template",
    "fresh": "a fresh process",
}
_FIRST = ("type", "id", "source", "subject", "causationid")
_UNSAID = {"specversion", "data", "data_base64"}
_LEDGER_TRIES, _LEDGER_EVERY_S = 50, 0.1


def related(records: Sequence[EventRecord], event_id: str) -> list[EventRecord]:
    """The records of an event, of what answered it, and of what answered that, and so on.

    An answer names what it answers in `causationid`; the record of a reply does too, because not
    every subscriber says so.
    """
    ids = {event_id}
    while True:
        found = {record.id for record in records if ids & {record.causation, record.answers}}
        if found <= ids:
            return [record for record in records if record.id in ids]
        ids |= found


def is_answer(event: Json) -> bool:
    """Whether the event's type is one that a predictor answers with."""
    return event.get("type") in (RESPONSE, ERROR)


def is_error(event: Json) -> bool:
    return event.get("type") == ERROR


def attributes(event: Json) -> list[tuple[str, str]]:
    """The context attributes of a structured event, the most telling first."""
    names = [name for name in _FIRST if name in event]
    names += sorted(set(event) - set(_FIRST) - _UNSAID)
    return [(name, _plain(event[name])) for name in names]


def sentence(event: Json) -> str:
    """What the model said, for a reader: the text, or a description of what is not text."""
    data = event.get("data")
    if not isinstance(data, Mapping):
        return data if isinstance(data, str) else _plain(data)
    for reader in (_error, _choices, _embeddings):
        if words := reader(data):
            return words
    return json.dumps(data, ensure_ascii=False, indent=2)


def _error(data: Json) -> str | None:
    error = data.get("error")
    if isinstance(error, Mapping) and error.get("message"):
        return str(error["message"])
    return str(error) if isinstance(error, str) else None


def _choices(data: Json) -> str | None:
    choice = _first(data.get("choices"))
    if choice is None:
        return None
    message = choice.get("message")
    words = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    return str(words).strip() if words else None


def _embeddings(data: Json) -> str | None:
    entry = _first(data.get("data"))
    vector = entry.get("embedding") if entry is not None else None
    if not isinstance(vector, list):
        return None
    start = ", ".join(f"{number:.4f}" for number in vector[:4])
    return f"an embedding of {len(vector)} numbers: {start}, …"


def _first(value: object) -> Json | None:
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        return value[0]
    return None


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def show_cold_start(screen: Screen, cold_start: ColdStartReport) -> None:
    """One headline and one line for each phase, in ms."""
    phases = cold_start.phases
    start_ms = cold_start.start_ms
    total = start_ms if start_ms is not None else sum(phases.values())
    facts = [f"{total:,.0f} ms", _WAYS.get(cold_start.started or "", "")]
    if cold_start.outcome != "ready":
        facts.append(cold_start.reason or cold_start.outcome)
    screen.title(f"cold start of {cold_start.service}: {', '.join(filter(None, facts))}")
    width = max(10, min(60, screen.console.width - 30))  # beside names and numbers
    for text in phase_lines(phases, bars=screen.terminal, width=width):
        screen.draw_line(text)
    if cold_start.started == "template" and phases.get("fork", 0.0) > _LONG_FORK_MS:
        screen.line("  fork: waited until the warm template had loaded; relume up loads it once")


def find_cold_start(
    ledger: Sequence[ColdStartReport], event_id: str, answer: Json | None
) -> ColdStartReport | None:
    """The cold start that an event waited for: one that it triggered, or that its answer names."""
    for entry in reversed(ledger):
        if entry.triggered_by == event_id:
            return entry
    if answer is None or not answer.get("coldstartms"):
        return None
    service = str(answer.get("source", "")).rpartition("/")[2]
    return next((entry for entry in reversed(ledger) if entry.service == service), None)


async def cold_start_of(
    ledger: Callable[[], Awaitable[Sequence[ColdStartReport]]], event_id: str, answer: Json
) -> ColdStartReport | None:
    """The same for an answer that has just come; `ledger` asks the plane.

    The plane completes an entry after the first byte of the answer, so that the answering event may
    come a moment earlier. An answer that names a cold start is worth a wait of some seconds.
    """
    found = find_cold_start(await ledger(), event_id, answer)
    tries = _LEDGER_TRIES if answer.get("coldstartms") else 1
    while found is None and (tries := tries - 1):
        await asyncio.sleep(_LEDGER_EVERY_S)
        found = find_cold_start(await ledger(), event_id, answer)
    return found


def phase_lines(phases: Mapping[str, float], *, bars: bool, width: int = 40) -> list[Text]:
    """A line for each phase: name, milliseconds, and a bar from its start to its end."""
    whole = sum(phases.values()) or 1.0
    lines = []
    before = 0.0
    longest = max(12, *map(len, phases)) if phases else 12
    for name, ms in phases.items():
        label = name.replace("_", " ")
        line = Text.assemble("  ", (label.ljust(longest), "dim"), f"{ms:>9,.0f} ms")
        if bars:
            start = min(round(before / whole * width), width - 1)
            length = max(1, min(round(ms / whole * width), width - start))
            line.append("  " + " " * start)
            line.append("━" * length, style="yellow" if ms / whole >= 0.25 else "cyan")
        lines.append(line)
        before += ms
    return lines


def record_line(record: EventRecord) -> Text:
    """One record as one line: time, stage, Broker and Trigger, event, and outcome."""
    clock = record.at.partition("T")[2][:12].rstrip("Z") or record.at
    # A step of a flow has the name of its channel.
    step = record.trigger in (None, record.broker.partition("/")[2])
    where = record.broker if step else f"{record.broker} → {record.trigger}"
    line = Text.assemble(
        (f"{clock:<12}", "dim"),
        "  ",
        (f"{record.stage:<13}", _STAGE_STYLES.get(record.stage, "")),
        "  ",
        printable(f"{where}  {record.type}  {record.id}"),
    )
    if words := _outcome(record):
        line.append(f"  {printable(words)}", "dim")
    return line


def _outcome(record: EventRecord) -> str:
    parts = []
    if record.attempt is not None and record.attempt > 1:
        parts.append(f"attempt {record.attempt}")
    if record.status is not None:
        parts.append(f"status {record.status}")
    if record.ms is not None:
        parts.append(f"{record.ms:,.0f} ms")
    if record.detail:
        parts.append(record.detail)
    return ", ".join(parts)
