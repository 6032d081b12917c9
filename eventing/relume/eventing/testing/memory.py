"""An EventLog in memory, for tests: the same contract, nothing survives the process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from relume.base.clock import Clock
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerFull, BrokerKey, EventTooLarge
from relume.eventing.settings import MAX_STORED_BYTES, EventingSettings
from relume.eventing.testing.memory_dead_letters import MemoryDeadLetters


@dataclass(slots=True)
class _Log:
    events: list[bytes] = field(default_factory=list)  # sequence 1 is at index 0
    known: dict[str, tuple[float, int]] = field(default_factory=dict)  # key: (when, sequence)
    cursors: dict[str, "MemoryCursor"] = field(default_factory=dict)

    def take(self, payload: bytes) -> None:
        self.events.append(payload)
        for cursor in self.cursors.values():
            cursor.changed.set()


class MemoryHeld:
    """An event on lease; the lease is kept by its cursor."""

    def __init__(self, cursor: "MemoryCursor", sequence: int, payload: bytes) -> None:
        self._cursor = cursor
        self.sequence = sequence
        self.payload = payload

    async def settle(self) -> None:
        self._cursor.leases.pop(self.sequence, None)

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
        self.changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._log.events) + 1 - self._next

    @property
    def inherited(self) -> tuple[int, int]:
        return len(self.leases), self._next - 1

    def lease_end(self) -> float:
        return self._clock.monotonic() + self._lease_s

    async def fetch(self, limit: int) -> Sequence[MemoryHeld]:
        while not (due := self._due()[:limit]):
            self.changed.clear()
            await self._something_happens()
        for sequence in due:
            self.leases[sequence] = self.lease_end()
            self._next = max(self._next, sequence + 1)
        return [MemoryHeld(self, each, self._log.events[each - 1]) for each in due]

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

    async def append(self, broker: BrokerKey, envelope: Envelope, patience_s: float) -> bool:
        payload = _packed(envelope)
        log, key, now = (
            self._logs[broker],
            identity(envelope.event, envelope.via),
            self._clock.monotonic(),
        )
        if key in log.known and now - log.known[key][0] < self._settings.duplicate_window_s:
            return False
        log.known[key] = (now, len(log.events) + 1)
        log.take(payload)
        return True

    async def append_all(
        self, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        for each in envelopes:
            _packed(each)  # all fit, or none is stored
        return [await self.append(broker, each, patience_s) for each in envelopes]

    async def admit(self, broker: BrokerKey) -> None:
        log, settings = self._logs[broker], self._settings
        settled = min((each.settled for each in log.cursors.values()), default=len(log.events))
        left = log.events[settled:]
        if (settings.max_log_events is not None and len(left) >= settings.max_log_events) or (
            settings.max_log_bytes is not None and sum(map(len, left)) >= settings.max_log_bytes
        ):
            raise BrokerFull(f"{len(left)} events lie in Broker {broker}")

    async def bury(
        self, broker: BrokerKey, trigger: str, envelope: Envelope, patience_s: float
    ) -> None:
        letter = replace(envelope, trigger=trigger)
        self.dead_letters.bury(broker, trigger, letter, self._clock.now())

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


def _packed(envelope: Envelope) -> bytes:
    payload = envelope.pack()
    if len(payload) > MAX_STORED_BYTES:
        raise EventTooLarge(f"{len(payload)} bytes do not fit one message")
    return payload
