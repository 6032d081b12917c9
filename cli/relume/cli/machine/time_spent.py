"""Where the time of an event went: parts that sum to the time from its arrival to its last record.

Each moment belongs to exactly one part. While a subscriber has the event and a start that it waited
for runs, the moment belongs to a phase of that start, or to none of them where the ledger names
none. Parts come in the order of their middles, so that bars drawn one after the other show when.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from itertools import pairwise

from relume.cli.machine.deliveries import MS, Delivery, Under, deliveries, note_pause, under
from relume.cli.machine.reports import ColdStartReport, DeliveryKey, EventRecord
from relume.cli.machine.starts import Window, window_of
from relume.cli.machine.story import is_answer

STORING_EVENT = "storing the event"
EARLIER = "before the first record"
IN_BROKER = "in the Broker"
AT_SUBSCRIBER = "at the subscriber"
NO_ROOM = "waiting for a replica"
STORING = "storing the answer"
BETWEEN = "between attempts"
JOB_QUEUE = "in the queue of jobs"
DEAD = "as a dead letter"
AGAIN = "before it came again"
START = "start"  # as in "start: weights"
NO_PHASE = f"{START}: in no phase"
FAILED_START = f"{START}: one that failed"
Span = tuple[datetime, datetime]
_DONE = ("delivered", "replied", "dead-lettered", "dropped")
_STORED = ("accepted", "duplicate", "replied")
# This share of the whole is worth a word, where it is also so many ms.
_LONG, _LONG_MS = 0.2, 500.0
_HINTS = {
    IN_BROKER: f"{IN_BROKER}: it waited for its turn; a Trigger delivers as many events at once as "
    "its service takes (containerConcurrency and maxReplicas)",
    NO_ROOM: f"{NO_ROOM}: all replicas were busy; maxReplicas or containerConcurrency gives room",
    EARLIER: f"{EARLIER}: the plane was started anew in the meantime, or has forgotten the records",
    BETWEEN: f"{BETWEEN}: the back-off of the Trigger's delivery, or Retry-After of the subscriber",
}
_AFTER = {
    "delivered": STORING,
    "retrying": BETWEEN,
    "dead-lettered": DEAD,
    "dropped": DEAD,
    "queued": JOB_QUEUE,
    "completed": STORING,
    "failed": STORING,
    "expired": STORING,
    "cancelled": STORING,
    "dead": STORING,
}


def time_spent(
    records: Sequence[EventRecord], cold_starts: Sequence[ColdStartReport]
) -> Mapping[str, float]:
    """Return the milliseconds of each part; nothing where a time cannot be read.

    cold_starts: those that the event waited for.
    """
    try:
        told = sorted(((datetime.fromisoformat(each.at), each) for each in records), key=_at)
        sent = deliveries(records)
        windows = [each for start in cold_starts if (each := window_of(start)) is not None]
        arrived = arrival(records)
    except ValueError:
        return {}
    windows.sort(key=lambda window: window.began)
    parts = _Parts()
    if told and arrived is not None:
        parts.add(STORING_EVENT if told[0][1].stage == "accepted" else EARLIER, arrived, told[0][0])
    for began, ended, name, here in _spans(told, sent):
        if here is None:
            parts.add(name, began, ended)
        else:
            _with_subscriber(parts, (began, ended), here, windows)
    return parts.in_order()


def total_ms(records: Sequence[EventRecord]) -> float | None:
    """Milliseconds from the arrival of the event to its last record; None: no time can be read."""
    try:
        times = [datetime.fromisoformat(record.at) for record in records]
        arrived = arrival(records)
    except ValueError:
        return None
    if not times:
        return None
    began = min(times) if arrived is None else min(arrived, *times)
    return (max(times) - began) / MS


def arrival(records: Sequence[EventRecord]) -> datetime | None:
    """When the event came to its Broker, as the Broker noted it; None where no record says it.

    It is earlier than the first record where that was told by a plane that is gone. Raises
    ValueError for what is no time.
    """
    noted = (each.arrived for each in records if each.stage == "delivering")
    return min((datetime.fromisoformat(at) for at in noted if at is not None), default=None)


def answered_ms(records: Sequence[EventRecord]) -> float | None:
    """Milliseconds from the arrival of the event to the first answer; None: there is none yet."""
    try:
        told = sorted(((datetime.fromisoformat(each.at), each) for each in records), key=_at)
    except ValueError:
        return None
    in_order = [each for _, each in told]
    for place, each in enumerate(in_order):
        if each.stage in _STORED and is_answer(each.event):
            return total_ms(in_order[: place + 1])
    return None


def hints(spent: Mapping[str, float]) -> list[str]:
    """Explain those parts that took long and whose name does not say what to do about it."""
    least = max(_LONG * sum(spent.values()), _LONG_MS)
    return [hint for name, hint in _HINTS.items() if spent.get(name, 0.0) > least]


class _Parts:
    """Milliseconds by name, and where the middle of each part is."""

    def __init__(self) -> None:
        self._ms: dict[str, float] = {}
        self._weighted: dict[str, float] = {}
        self._zero: datetime | None = None

    def add(self, name: str, began: datetime, ended: datetime) -> None:
        """Add the time between two moments; nothing where they are in the wrong order."""
        if began >= ended:
            return
        self._zero = self._zero or began
        ms = (ended - began) / MS
        middle = (began - self._zero) / MS + ms / 2
        self._ms[name] = self._ms.get(name, 0.0) + ms
        self._weighted[name] = self._weighted.get(name, 0.0) + ms * middle

    def in_order(self) -> Mapping[str, float]:
        """Return the parts, ordered by the mean time at which each was."""
        names = sorted(self._ms, key=lambda name: self._weighted[name] / self._ms[name])
        return {name: self._ms[name] for name in names}


def _at(told: tuple[datetime, EventRecord]) -> datetime:
    return told[0]


def _spans(
    told: Sequence[tuple[datetime, EventRecord]], sent: Sequence[Delivery]
) -> Iterator[tuple[datetime, datetime, str, Under | None]]:
    """Yield what the event did between each two records; with the deliveries that were under way.

    Where nobody has it, the span is named by the record before it, or by a back-off that runs.
    """
    pausing: dict[DeliveryKey, EventRecord] = {}
    done: set[str] = set()
    for (began, record), (ended, following) in pairwise(told):
        note_pause(pausing, record)
        if record.stage in _DONE:
            done.add(record.answers or record.id)
        if here := under(sent, began, ended):
            yield began, ended, AT_SUBSCRIBER, here
            continue
        name = BETWEEN if pausing else _idle(record, following, done)
        # A plane that tells only how a delivery ended says how long it took.
        middle = max(began, ended - timedelta(milliseconds=following.ms or 0.0))
        yield began, middle, name, None
        yield middle, ended, AT_SUBSCRIBER, Under(None)


def _idle(record: EventRecord, following: EventRecord, done: Set[str]) -> str:
    """Name a span in which nobody has the event. `done`: the ids of what was delivered before.

    What comes again after that, or is sent again, has waited for its sender or for an operator,
    whatever other deliveries have told last.
    """
    if following.stage == "redriven":
        return DEAD
    came = following.stage in ("accepted", "duplicate")
    if came and following.id in done and record.stage != "replied":  # that is no answer's arrival
        return AGAIN
    return _AFTER.get(record.stage, IN_BROKER)


def _with_subscriber(parts: _Parts, span: Span, here: Under, windows: Sequence[Window]) -> None:
    """Share out a span in which a subscriber has the event.

    Until the request had a replica, what is no start is a wait for room. From then on a start may
    only be in its last phase, the first token.
    """
    began, ended = span
    if here.waits_until is None:
        return _cover(parts, began, ended, AT_SUBSCRIBER, windows)
    granted = min(max(began, here.waits_until), ended)
    last = max((each.first_token for each in windows), default=timedelta())
    answering = min(max(began, here.waits_until + last), ended)
    _cover(parts, began, granted, NO_ROOM, windows)
    _cover(parts, granted, answering, AT_SUBSCRIBER, windows)
    parts.add(AT_SUBSCRIBER, answering, ended)


def _cover(
    parts: _Parts, began: datetime, ended: datetime, rest: str, windows: Sequence[Window]
) -> None:
    """Give each moment to the first start that ran then, and what is left to `rest`."""
    for window in windows:
        first, last = max(began, window.began), min(ended, window.ended)
        if first >= last:
            continue
        parts.add(rest, began, first)
        _phases(parts, window, first, last)
        began = last
    parts.add(rest, began, ended)


def _phases(parts: _Parts, window: Window, began: datetime, ended: datetime) -> None:
    """Share out the part of a start from `began` to `ended` among its phases."""
    if window.failed:
        return parts.add(FAILED_START, began, ended)
    at = window.began
    unnamed = (window.ended - at) / MS - sum(window.phases.values())
    for name, ms in window.phases.items():
        if name == "first_token":  # what has no name was before the process was ready
            first, at = at, at + timedelta(milliseconds=max(unnamed, 0.0))
            parts.add(NO_PHASE, max(first, began), min(at, ended))
        first, at = at, at + timedelta(milliseconds=ms)
        part = f"{START}: {name.replace('_', ' ')}"
        parts.add(part, max(first, began), min(at, ended))
    parts.add(NO_PHASE, max(at, began), ended)
