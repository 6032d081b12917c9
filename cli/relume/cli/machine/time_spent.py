"""Where the time of an event went: parts that sum to the time from its first record to its last.

Each moment belongs to exactly one part. While a subscriber has the event, and a cold start runs, it
belongs to a phase of the cold start, or to none of them where the ledger names none.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from relume.cli.machine.reports import ColdStartReport, EventRecord

IN_BROKER = "in the Broker"
AT_SUBSCRIBER = "at the subscriber"
STORING = "storing the answer"
BETWEEN = "between attempts"
START = "start"  # as in "start: weights"
NO_PHASE = f"{START}: in no phase"
_MS = timedelta(milliseconds=1)
Span = tuple[datetime, datetime]


def time_spent(
    records: Sequence[EventRecord], cold_start: ColdStartReport | None
) -> Mapping[str, float]:
    """Return the milliseconds of each part, in the order in which they come first.

    Nothing where a time cannot be read. `cold_start` is the one that the event waited for.
    """
    try:
        told = sorted(((datetime.fromisoformat(each.at), each) for each in records), key=_at)
        window = None if cold_start is None else _window(cold_start)
    except ValueError:
        return {}
    found: dict[str, float] = {}
    for name, span in _spans(told):
        if name == AT_SUBSCRIBER and window is not None and (shared := _shared(span, window)):
            skipped = (shared[0] - window[0]) / _MS
            for part, ms in _phases_from(skipped, _length(shared), cold_start):
                found[part] = found.get(part, 0.0) + ms
            found[name] = found.get(name, 0.0) + _length(span) - _length(shared)
        else:
            found[name] = found.get(name, 0.0) + _length(span)
    return {name: ms for name, ms in found.items() if ms > 0}


def _at(told: tuple[datetime, EventRecord]) -> datetime:
    return told[0]


def _length(span: Span) -> float:
    return (span[1] - span[0]) / _MS


def _spans(told: Sequence[tuple[datetime, EventRecord]]) -> list[tuple[str, Span]]:
    """What the event did between each two records."""
    spans: list[tuple[str, Span]] = []
    under_way: set[tuple[str, str | None]] = set()
    for (began, record), (ended, following) in pairwise(told):
        key = (record.id, record.trigger)
        if record.stage == "delivering":
            under_way.add(key)
        else:
            under_way.discard(key)
        if under_way:
            spans.append((AT_SUBSCRIBER, (began, ended)))
            continue
        # A plane that tells only how a delivery ended says how long it took.
        took = timedelta(milliseconds=following.ms or 0.0)
        middle = max(began, ended - took)
        spans += [(_waiting(record), (began, middle)), (AT_SUBSCRIBER, (middle, ended))]
    return spans


def _waiting(record: EventRecord) -> str:
    """What an event does after a record, where no subscriber has it."""
    if record.stage == "retrying":
        return BETWEEN
    return STORING if record.stage == "delivered" else IN_BROKER


def _window(cold_start: ColdStartReport) -> Span | None:
    """From the arrival of the request that caused a start to its first token."""
    start_ms = cold_start.start_ms
    total = start_ms if start_ms is not None else cold_start.ready
    if total is None or not cold_start.at:
        return None
    queue = cold_start.phases.get("queue", 0.0)
    began = datetime.fromisoformat(cold_start.at) - timedelta(milliseconds=queue)
    return began, began + timedelta(milliseconds=total)


def _shared(one: Span, other: Span) -> Span | None:
    began, ended = max(one[0], other[0]), min(one[1], other[1])
    return (began, ended) if began < ended else None


def _phases_from(
    skipped: float, length: float, cold_start: ColdStartReport | None
) -> list[tuple[str, float]]:
    """The phases in `length` ms of a start, without its first `skipped` ms."""
    assert cold_start is not None
    phases = cold_start.phases
    found: list[tuple[str, float]] = []
    for name, ms in phases.items():
        cut = min(skipped, ms)
        skipped -= cut
        part = min(ms - cut, length)
        length -= part
        if part > 0:
            found.append((f"{START}: {name.replace('_', ' ')}", part))
    return [*found, (NO_PHASE, length)]
