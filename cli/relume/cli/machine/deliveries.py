"""When a subscriber had an event, from its records: one delivery for each attempt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from relume.cli.machine.reports import DeliveryKey, EventRecord

MS = timedelta(milliseconds=1)
_SERVICE = re.compile(r"https?://[^/]+/serving/([^/]+/[^/]+)(?:/|$)")
# Fewer than 32 years, so that it can be added to any date.
_WHOLE_MS = re.compile(r"[0-9]{1,12}")
# The stages of a job in which a worker has it.
_WORKED = ("leased", "streaming")
# What may be told of an event while a subscriber has it.
_NO_END = ("accepted", "duplicate", "redriven")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt; `ended` is None while no record says how it ended."""

    began: datetime
    ended: datetime | None = None
    service: str | None = None
    """NAMESPACE/NAME of the service of this plane that was asked."""
    queue_ms: float | None = None
    """How long the request waited until it had a replica; None where nothing tells."""

    @property
    def waits_until(self) -> datetime | None:
        """When the request had a replica, where that is known."""
        if self.queue_ms is None:
            return None
        return self.began + timedelta(milliseconds=self.queue_ms)


@dataclass(frozen=True, slots=True)
class Under:
    """The deliveries that were under way in a span of time.

    waits_until: when the last of them had a replica; None where one of them does not tell.
    """

    waits_until: datetime | None


def deliveries(records: Sequence[EventRecord]) -> list[Delivery]:
    """Return the deliveries of an event and of what came of it, in the order of their beginnings.

    The attempts of a job count as deliveries to its service. Raises ValueError for what is no time.
    """
    found: list[Delivery] = []
    begun: dict[DeliveryKey, tuple[EventRecord, Delivery]] = {}
    for record in sorted(records, key=lambda each: datetime.fromisoformat(each.at)):
        key, at = record.delivery, datetime.fromisoformat(record.at)
        if key in begun and record.stage not in _NO_END:
            before, delivery = begun[key]
            if _only_a_note(before, record):
                continue
            del begun[key]
            told = _queue_ms(record)
            queue_ms = delivery.queue_ms if told is None else told
            found.append(replace(delivery, ended=at, queue_ms=queue_ms))
        if record.stage == "delivering":
            called = _SERVICE.match(record.detail or "")
            begun[key] = (record, Delivery(at, service=called and called[1]))
        elif record.stage in _WORKED:
            # A job streams from the moment when its predictor answers: it waits no more.
            queue_ms = 0.0 if record.stage == "streaming" else None
            begun[key] = (record, Delivery(at, service=record.broker, queue_ms=queue_ms))
    return sorted([*found, *(each for _, each in begun.values())], key=lambda each: each.began)


def note_pause(pausing: dict[DeliveryKey, EventRecord], record: EventRecord) -> None:
    """Keep in `pausing` the failed attempts that wait for the next one; `record` is the newest."""
    if record.stage == "retrying":
        pausing[record.delivery] = record
    else:
        pausing.pop(record.delivery, None)


def _only_a_note(before: EventRecord, record: EventRecord) -> bool:
    """Whether a record says of an attempt that is under way only that it takes long."""
    same = (record.stage, record.attempt) == (before.stage, before.attempt)
    return same and record.detail != before.detail


def under(sent: Sequence[Delivery], began: datetime, ended: datetime) -> Under | None:
    """Return what was under way between two records; None where no subscriber had the event."""
    here = [
        each for each in sent if each.began <= began and (each.ended is None or each.ended >= ended)
    ]
    if not here or began == ended:
        return None
    moments = [each.waits_until for each in here]
    known = [moment for moment in moments if moment is not None]
    return Under(max(known) if len(known) == len(moments) else None)


def _queue_ms(record: EventRecord) -> float | None:
    """What the answer of a predictor says of its wait; None where it is no time in whole ms.

    The answer may be that of any subscriber, with any value.
    """
    told = str(record.event.get("queuems", "")) if record.stage == "replied" else ""
    return float(told) if _WHOLE_MS.fullmatch(told) else None
