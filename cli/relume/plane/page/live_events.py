"""The records that one page is told: those that pass its filter, and those of its own events.

Many more may happen than a person reads. So only the newest of each moment are told, and the others
are counted. Data is told of the events that the page itself has sent and of their answers; of
others only where `--show-prompts` was given.
"""

import asyncio
import re
from collections import deque

from relume.cesql.program import compile
from relume.eventing.filters import Predicate
from relume.eventing.jobs.job import JOB
from relume.eventing.observer import BEGINNING_BYTES, Observer, Record

#: What waits for the next moment of one page; the oldest are counted as lost.
ROOM, ROOM_BYTES = 2000, 4 * 2**20
#: The newest records that are told of one moment, and of the past when a filter is set.
TOLD, TOLD_OF_THE_PAST = 20, 100
_RECALLED = 1000
#: A page follows so many of its own events; the oldest are forgotten.
FOLLOWED = 20
_TEXT = 300
# What a detail is made of: the subscriber's URL; the id of the request; or words, then a quotation.
_NOTHING_QUOTED = frozenset({"delivering", "replied"})
_PLAIN = {
    "retrying": re.compile(r"again in [0-9.e+]+ s$"),
    "dead-lettered": re.compile(r"^[a-z-]+(?=:)"),
}
_NOTHING = re.compile(r"(?!)")
_DATA_BYTES = 16 * 1024


class LiveEvents:
    """What one page follows. `close` it."""

    def __init__(self, observer: Observer, *, prompts: bool) -> None:
        self._observer = observer
        self._prompts = prompts
        self._waiting = observer.subscribe(room=ROOM, room_bytes=ROOM_BYTES)
        self._lost = 0
        self._wanted: Predicate | None = None
        self._begins_anew = True
        self._followed: deque[str] = deque(maxlen=FOLLOWED)

    def close(self) -> None:
        self._waiting.close()

    def want(self, expression: str) -> None:
        """Tell only what passes a CESQL expression from now on; "" is everything.

        Raises ParseError.
        """
        if expression.strip():
            program = compile(expression)
            self._wanted = lambda event: program.matches(event.attributes)
        else:
            self._wanted = None
        self._begins_anew = True

    def follow(self, event_id: str) -> None:
        """Tell everything of this event and of what answers it."""
        self._followed.append(event_id)

    async def news(self) -> dict[str, object]:
        """What has happened since the last call, for one message; empty: nothing."""
        records = self._waiting.take(ROOM)
        news: dict[str, object] = {}
        if followed := [self._told(each, whole=True) for each in records if self._follows(each)]:
            news["followed"] = followed
        if any(each.event.type == JOB for each in records):
            news["jobs"] = True
        begins_anew, self._begins_anew = self._begins_anew, False
        most = TOLD
        if begins_anew:
            records, most = list(self._observer.recent(_RECALLED)), TOLD_OF_THE_PAST
        matched = await self._passing(records)
        lost, self._lost = self._waiting.lost - self._lost, self._waiting.lost
        if matched or begins_anew or lost:
            news["events"] = {
                "reset": begins_anew,
                "matched": 0 if begins_anew else len(matched),
                "seen": 0 if begins_anew else len(records),
                "lost": lost,
                "records": [self._told(each, whole=self._prompts) for each in matched[-most:]],
            }
        return news

    async def _passing(self, records: list[Record]) -> list[Record]:
        """The records that pass the filter.

        Other tasks have their turn after each one: a long LIKE takes up to a second for an
        attribute of 60 kB.
        """
        if (wanted := self._wanted) is None:
            return records
        passing = []
        for record in records:
            if wanted(record.event):
                passing.append(record)
            await asyncio.sleep(0)
        return passing

    def _follows(self, record: Record) -> bool:
        if not self._followed:
            return False
        event = record.event
        return event.id in self._followed or event.attributes.get("causationid") in self._followed

    def _told(self, record: Record, *, whole: bool) -> dict[str, object]:
        event = record.event
        data = event.data or b""
        told: dict[str, object] = {
            "at": record.at,
            "stage": record.stage,
            "broker": record.broker,
            "type": event.type[:_TEXT],
            "source": event.source[:_TEXT],
            "id": event.id[:_TEXT],
            "bytes": len(data) if record.bytes is None else record.bytes,
        }
        cause = event.attributes.get("causationid")
        beside = {
            "trigger": record.trigger,
            "attempt": record.attempt,
            "status": record.status,
            "ms": record.ms,
            "cause": None if cause is None else str(cause)[:_TEXT],
            "detail": self._detail(record),
        }
        told |= {name: value for name, value in beside.items() if value is not None}
        if whole:
            most = _DATA_BYTES if self._follows(record) else BEGINNING_BYTES
            told["data"] = record.begins or data[:most].decode(errors="replace")
        return told

    def _detail(self, record: Record) -> str | None:
        detail = record.detail
        if detail is not None and not self._prompts:
            detail = _without_quotes(record.stage, detail)
        return None if detail is None else detail[:_TEXT]


def _without_quotes(stage: str, detail: str) -> str | None:
    """What of a detail quotes neither a subscriber nor a predictor, who may quote the event."""
    if stage in _NOTHING_QUOTED:
        return detail
    found = _PLAIN.get(stage, _NOTHING).search(detail)
    return None if found is None else found[0]
