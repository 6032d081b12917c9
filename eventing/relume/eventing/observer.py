"""What happens to events, for listeners in this process.

Nothing waits for a listener. A listener that falls behind loses the oldest records, and `lost`
counts them.

Records are kept by count and by bytes. A record never holds long data: of data above `WHOLE_BYTES`
only the beginning is kept, with its size, and the log has the rest (`EventLog.recall`).
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple, Self

import orjson

from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import identity

# Data of this size is kept whole: nearly every chat. 1,000 such records fit KEPT_BYTES.
WHOLE_BYTES = 16 * 1024
BEGINNING_BYTES = 1024
KEPT_RECORDS = 1000
KEPT_BYTES = 16 * 1024 * 1024
# One listener's queue.
WAITING_RECORDS = 10_000
WAITING_BYTES = 16 * 1024 * 1024
# What a record takes beside its attributes and its data: the objects around them.
_RECORD_BYTES = 640

Stage = Literal[
    "accepted",
    "duplicate",
    "delivering",
    "delivered",
    "replied",
    "retrying",
    "dead-lettered",
    "redriven",
    "dropped",
    # Of a job.
    "queued",
    "leased",
    "streaming",
    "completed",
    "failed",
    "expired",
    "cancelled",
    "dead",
]


class Record(NamedTuple):
    """One step in the life of an event.

    `at` is an RFC 3339 time in UTC, `broker` reads `NAMESPACE/NAME`, `attempt` counts from 1,
    `status` is the subscriber's (None: no answer), `ms` is how long the step took. `via` is the
    Trigger whose subscriber answered with this event.

    A record whose event was shortened says in `bytes` how long the data was, in `begins` how it
    begins, and in `key` under which identity the log has it. Its event has no data.
    """

    at: str
    stage: Stage
    broker: str
    event: CloudEvent
    trigger: str | None = None
    attempt: int | None = None
    status: int | None = None
    ms: float | None = None
    detail: str | None = None
    via: str = ""
    bytes: int | None = None
    begins: str | None = None
    key: str | None = None

    def to_json(self) -> str:
        """A JSON object; `event` is in the CloudEvents JSON format."""
        fields = {name: getattr(self, name) for name in _ALWAYS_TOLD}
        if self.bytes is not None:
            fields |= {name: getattr(self, name) for name in _TOLD_WHEN_SHORTENED}
        fields["event"] = orjson.Fragment(json_format.dump_event(self.event))
        return orjson.dumps(fields).decode()

    def shortened(self) -> "Record":
        """The record as it is kept: without data above `WHOLE_BYTES`."""
        data = self.event.data
        if data is None or len(data) <= WHOLE_BYTES:
            return self
        return self._replace(
            event=CloudEvent(self.event.attributes),
            bytes=len(data),
            begins=data[:BEGINNING_BYTES].decode(errors="replace"),
            key=self.key or identity(self.event, self.via),
        )

    @property
    def weight(self) -> int:
        """About how many bytes the record takes, for the bounds of those who keep it."""
        attributes = len(orjson.dumps(self.event.attributes))
        texts = len(self.begins or "") + len(self.detail or "")
        return _RECORD_BYTES + attributes + texts + len(self.event.data or b"")


_ALWAYS_TOLD = ("at", "stage", "broker", "trigger", "attempt", "status", "ms", "detail")
_TOLD_WHEN_SHORTENED = ("bytes", "begins", "key")


class BoundedRecords:
    """A queue of records with room for `most` of them and for `most_bytes`.

    The oldest make room for a new one. The newest is always kept.
    """

    def __init__(self, most: int, most_bytes: int, records: Iterable[Record] = ()) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._records: deque[tuple[Record, int]] = deque()
        self.bytes = 0
        for record in records:
            self.add(record, record.weight)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record, weight: int) -> int:
        """Append a record of `weight` bytes; returns how many old ones had to go."""
        records = self._records
        records.append((record, weight))
        self.bytes += weight
        gone = 0
        while len(records) > self._most or (self.bytes > self._most_bytes and len(records) > 1):
            self.bytes -= records.popleft()[1]
            gone += 1
        return gone

    def take(self) -> Record:
        """Remove and return the oldest."""
        record, weight = self._records.popleft()
        self.bytes -= weight
        return record

    def last(self, count: int) -> tuple[Record, ...]:
        """The newest `count`, oldest first."""
        start = max(0, len(self) - max(0, count))
        return tuple(record for record, _ in list(self._records)[start:])


class Observer:
    """The last records of this process, and all that come from now on."""

    def __init__(self, remember: int = KEPT_RECORDS, remember_bytes: int = KEPT_BYTES) -> None:
        self._ring = BoundedRecords(remember, remember_bytes)
        self._subscriptions: set[Subscription] = set()

    def publish(self, record: Record) -> None:
        """Never waits and never fails."""
        record = record.shortened()
        weight = record.weight
        self._ring.add(record, weight)
        for subscription in self._subscriptions:
            subscription.offer(record, weight)

    def recent(self, count: int) -> tuple[Record, ...]:
        """The last `count` records of those that are kept, oldest first."""
        return self._ring.last(count)

    def subscribe(
        self, replay: int = 0, room: int = WAITING_RECORDS, room_bytes: int = WAITING_BYTES
    ) -> "Subscription":
        """An asynchronous iterator over the last `replay` records and all later ones.

        Close it, or use it in a `with` block.
        """
        waiting = BoundedRecords(room, room_bytes, self.recent(replay))
        subscription = Subscription(self._subscriptions, waiting)
        self._subscriptions.add(subscription)
        return subscription


class Subscription:
    """One listener's queue of records; ends when it is closed."""

    def __init__(self, registry: set["Subscription"], waiting: BoundedRecords) -> None:
        self._registry = registry
        self._waiting = waiting
        self._arrived = asyncio.Event()
        self._closed = False
        self.lost = 0

    def offer(self, record: Record, weight: int) -> None:
        """Queue a record, in place of the oldest ones when there is no room."""
        self.lost += self._waiting.add(record, weight)
        self._arrived.set()

    def take(self, most: int) -> list[Record]:
        """Remove and return up to `most` of the records that wait, oldest first; does not wait."""
        return [self._waiting.take() for _ in range(min(most, len(self._waiting)))]

    def close(self) -> None:
        self._closed = True
        self._registry.discard(self)
        self._arrived.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.take()
