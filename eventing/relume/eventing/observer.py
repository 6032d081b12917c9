"""What happens to events, for listeners in this process.

Nothing waits for a listener. A listener that falls behind loses the oldest records, and `lost`
counts them.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal, Self

import orjson

from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent

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
]


@dataclass(frozen=True, slots=True)
class Record:
    """One step in the life of an event.

    `at` is an RFC 3339 time in UTC, `broker` reads `NAMESPACE/NAME`, `attempt` counts from 1,
    `status` is the subscriber's (None: no answer), `ms` is how long the step took.
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

    def to_json(self) -> str:
        """A JSON object; `event` is in the CloudEvents JSON format."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "event"}
        fields["event"] = orjson.Fragment(json_format.dump_event(self.event))
        return orjson.dumps(fields).decode()


class Observer:
    """The records of this process: the last 1,000, and all that come from now on."""

    def __init__(self, remember: int = 1000) -> None:
        self._ring: deque[Record] = deque(maxlen=remember)
        self._subscriptions: set[Subscription] = set()

    def publish(self, record: Record) -> None:
        """Never waits and never fails."""
        self._ring.append(record)
        for subscription in self._subscriptions:
            subscription.offer(record)

    def recent(self, count: int) -> tuple[Record, ...]:
        """The last `count` records, oldest first."""
        return tuple(self._ring)[-count:] if count > 0 else ()

    def subscribe(self, replay: int = 0, room: int = 10_000) -> "Subscription":
        """An asynchronous iterator over the last `replay` records and all later ones.

        Close it, or use it in a `with` block.
        """
        subscription = Subscription(self._subscriptions, self.recent(replay), room)
        self._subscriptions.add(subscription)
        return subscription


class Subscription:
    """One listener's queue of records; ends when it is closed."""

    def __init__(
        self, registry: set["Subscription"], replay: tuple[Record, ...], room: int
    ) -> None:
        self._registry = registry
        self._queue: deque[Record] = deque(replay, maxlen=room)
        self._arrived = asyncio.Event()
        self._closed = False
        self.lost = 0

    def offer(self, record: Record) -> None:
        """Queue a record, in place of the oldest when there is no room."""
        if len(self._queue) == self._queue.maxlen:
            self.lost += 1
        self._queue.append(record)
        self._arrived.set()

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
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()
