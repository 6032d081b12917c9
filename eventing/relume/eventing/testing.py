"""Doubles of the event log, in memory, for tests of what stands on one.

They keep the same contract as JetStream: the suite in `tests/contract` runs over both. Nothing in
them survives the process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from relume.base.clock import Clock
from relume.eventing.dead_letters import Letter, NoSuchDeadLetter, UnknownTrigger, burial
from relume.eventing.envelope import Envelope, key_of
from relume.eventing.event_log import BrokerFull, BrokerKey, packed
from relume.eventing.settings import EventingSettings

__all__ = ["MemoryCursor", "MemoryDeadLetters", "MemoryLeasedEvent", "MemoryLog"]

# Stores an event for one of the Broker's Triggers; False when there is no such Trigger.
PutBack = Callable[[BrokerKey, Envelope], bool]


@dataclass(slots=True)
class _Log:
    events: list[bytes] = field(default_factory=list)  # sequence 1 is at index 0
    known: dict[str, float] = field(default_factory=dict)  # when, by key
    places: dict[str, int] = field(default_factory=dict)  # sequence, by key
    cursors: dict[str, "MemoryCursor"] = field(default_factory=dict)

    def take(self, payload: bytes) -> None:
        self.events.append(payload)
        for cursor in self.cursors.values():
            cursor.changed.set()


class MemoryLeasedEvent:
    """An event on lease; the lease is kept by its cursor."""

    def __init__(
        self, cursor: "MemoryCursor", sequence: int, payload: bytes, generation: int
    ) -> None:
        self._cursor = cursor
        self.sequence = sequence
        self.payload = payload
        self.generation = generation

    async def settle(self) -> None:
        self._cursor.leases.pop(self.sequence, None)
        self._cursor.deliveries.pop(self.sequence, None)

    async def give_back(self) -> None:
        if self.sequence in self._cursor.leases:
            self._cursor.leases[self.sequence] = 0.0
            self._cursor.changed.set()

    async def extend(self) -> None:
        if self.sequence in self._cursor.leases:
            self._cursor.leases[self.sequence] = self._cursor.lease_end()


class MemoryCursor:
    """A Trigger's place; `leases` maps each unsettled sequence to when it may be fetched again."""

    def __init__(self, log: _Log, clock: Clock, lease_s: float) -> None:
        self._log = log
        self._clock = clock
        self._lease_s = lease_s
        self._next = len(log.events) + 1
        self.leases: dict[int, float] = {}
        self.deliveries: dict[int, int] = {}  # of each unsettled event
        self.changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._log.events) + 1 - self._next

    @property
    def inherited(self) -> tuple[int, int]:
        return len(self.leases), self._next - 1

    def lease_end(self) -> float:
        return self._clock.monotonic() + self._lease_s

    async def fetch(self, limit: int) -> Sequence[MemoryLeasedEvent]:
        while not (due := self._due()[:limit]):
            self.changed.clear()
            await self._something_happens()
        for sequence in due:
            self.leases[sequence] = self.lease_end()
            self.deliveries[sequence] = self.deliveries.get(sequence, 0) + 1
            self._next = max(self._next, sequence + 1)
        return [
            MemoryLeasedEvent(self, each, self._log.events[each - 1], self.deliveries[each])
            for each in due
        ]

    @property
    def settled(self) -> int:
        """How many events from the start of the log this cursor is done with."""
        return min(self.leases, default=self._next) - 1

    async def stop(self) -> None: ...

    async def confirm(self) -> None: ...

    def _due(self) -> list[int]:
        now = self._clock.monotonic()
        again = sorted(sequence for sequence, end in self.leases.items() if end <= now)
        return again + list(range(self._next, len(self._log.events) + 1))

    async def _something_happens(self) -> None:
        """A new event, one given back, or the end of the first lease."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self.changed.wait())]
        if self.leases:
            left = min(self.leases.values()) - self._clock.monotonic()
            waits.append(asyncio.ensure_future(self._clock.sleep(left)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class MemoryLog:
    """Brokers as lists."""

    def __init__(self, settings: EventingSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._logs: dict[BrokerKey, _Log] = {}
        self.dead_letters = MemoryDeadLetters(self._put_back)

    async def close(self) -> None: ...

    async def open_broker(self, broker: BrokerKey, triggers: Sequence[str]) -> None:
        log = self._logs.setdefault(broker, _Log())
        log.cursors = {
            trigger: log.cursors.get(trigger)
            or MemoryCursor(log, self._clock, self._settings.lease_s)
            for trigger in triggers
        }

    def triggers(self, broker: BrokerKey) -> set[str]:
        """The Triggers that have a place in a Broker's log."""
        return set(self._logs[broker].cursors)

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        payload = packed(envelope)
        log, now = self._logs[broker], self._clock.monotonic()
        key = key_of(envelope)
        if key in log.known and now - log.known[key] < self._settings.duplicate_window_s:
            return False
        log.known[key] = now
        log.take(payload)
        log.places[key] = len(log.events)
        return True

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        for each in envelopes:
            packed(each)  # all fit, or none is stored
        return [await self.append(broker, each, patience_s) for each in envelopes]

    async def admit(self, broker: BrokerKey) -> None:
        log = self._logs[broker]
        settled = min((each.settled for each in log.cursors.values()), default=len(log.events))
        left = log.events[settled:]
        if self._settings.log_is_full(len(left), sum(map(len, left))):
            raise BrokerFull(f"{len(left)} events lie in Broker {broker}")

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        letter = replace(envelope, trigger=trigger)
        self.dead_letters.bury(broker, trigger, letter, self._clock.now())

    async def recall(self, broker: BrokerKey, key: str) -> Envelope | None:
        log = self._logs[broker]
        place = log.places.get(key)
        return None if place is None else Envelope.unpack(log.events[place - 1])

    def cursor(self, broker: BrokerKey, trigger: str) -> MemoryCursor:
        return self._logs[broker].cursors[trigger]

    def buried(self, broker: BrokerKey) -> int:
        return self.dead_letters.count(broker)

    async def sweep(self) -> None: ...

    def _put_back(self, broker: BrokerKey, envelope: Envelope) -> bool:
        log = self._logs[broker]
        if envelope.trigger not in log.cursors:
            return False
        log.take(envelope.pack())
        return True


@dataclass(slots=True)
class _Kept:
    letters: dict[int, Letter] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    last: int = 0
    put_back: set[int] = field(default_factory=set)


class MemoryDeadLetters:
    """The dead letters of a MemoryLog."""

    def __init__(self, put_back: PutBack) -> None:
        self._kept: dict[BrokerKey, _Kept] = {}
        self._put_back = put_back

    def bury(self, broker: BrokerKey, trigger: str, envelope: Envelope, at: datetime) -> None:
        kept, key = self._of(broker), burial(envelope, trigger)
        if key not in kept.known:
            kept.known.add(key)
            kept.last += 1
            kept.letters[kept.last] = Letter(broker, kept.last, at, envelope)

    def count(self, broker: BrokerKey) -> int:
        return len(self._of(broker).letters)

    async def letters(self, broker: BrokerKey, after: int = 0) -> AsyncIterator[Letter]:
        for letter in list(self._of(broker).letters.values()):
            if letter.sequence > after:
                yield letter

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        if (letter := self._of(broker).letters.get(sequence)) is None:
            raise NoSuchDeadLetter(broker, sequence)
        return letter

    async def put_back(self, letter: Letter) -> bool:
        done = self._of(letter.broker).put_back
        if letter.sequence in done:
            return False
        if not self._put_back(letter.broker, letter.restored()):
            raise UnknownTrigger(f"{letter.broker} has no Trigger {letter.trigger} any more")
        done.add(letter.sequence)
        return True

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        await self.get(broker, sequence)
        del self._of(broker).letters[sequence]

    def _of(self, broker: BrokerKey) -> _Kept:
        return self._kept.setdefault(broker, _Kept())
