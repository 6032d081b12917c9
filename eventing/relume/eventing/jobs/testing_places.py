"""The places of workers and publishers in the job store in memory, for tests (`testing.py`)."""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from relume.base.clock import Clock
from relume.eventing.jobs.settings import JobSettings


@dataclass(slots=True)
class Place:
    """The place of all workers together in what `above` finds: sequences above one, in order."""

    above: Callable[[int], Iterable[int]]
    payload: Callable[[int], bytes | None]
    # Called with the sequence of what is settled.
    settled: Callable[[int], object] = lambda _: None
    delivered: int = 0
    leases: dict[int, float] = field(default_factory=dict)  # when each may be fetched again
    deliveries: dict[int, int] = field(default_factory=dict)  # of each unsettled message


class MemoryLeasedJob:
    """A message on lease; the lease is kept by its place."""

    def __init__(self, cursor: "MemoryJobCursor", sequence: int, payload: bytes) -> None:
        self._cursor = cursor
        self.sequence = sequence
        self.payload = payload
        self.generation = cursor.place.deliveries[sequence]

    async def settle(self) -> None:
        self._cursor.place.leases.pop(self.sequence, None)
        self._cursor.place.deliveries.pop(self.sequence, None)
        self._cursor.place.settled(self.sequence)

    async def give_back(self) -> None:
        if self.sequence in self._cursor.place.leases:
            self._cursor.place.leases[self.sequence] = 0.0
            self._cursor.changes.tell()

    async def put_off(self, seconds: float) -> None:
        until = self._cursor.put_off(self.sequence, seconds)
        if self.sequence in self._cursor.place.leases:
            self._cursor.place.leases[self.sequence] = until

    async def extend(self) -> None:
        if self.sequence in self._cursor.place.leases:
            self._cursor.place.leases[self.sequence] = self._cursor.lease_end()


class MemoryJobCursor:
    """One of several cursors at the same place."""

    def __init__(
        self, place: Place, changes: "Changes", clock: Clock, settings: JobSettings
    ) -> None:
        self.place = place
        self.changes = changes
        self._clock = clock
        self._lease_s = settings.lease_s
        self._put_off: dict[int, float] = {}
        self.inherited = (len(place.leases), place.delivered)

    @property
    def waiting(self) -> int:
        return sum(1 for _ in self.place.above(self.place.delivered)) + len(self._put_off)

    def put_off(self, sequence: int, seconds: float) -> float:
        """When it comes again."""
        until = self._put_off[sequence] = self._clock.monotonic() + seconds
        return until

    def lease_end(self) -> float:
        return self._clock.monotonic() + self._lease_s

    async def fetch(self, limit: int) -> Sequence[MemoryLeasedJob]:
        while not (due := self._due(limit)):
            left = min(self.place.leases.values(), default=math.inf) - self._clock.monotonic()
            await self.changes.wait(self._clock, left)
        for sequence, _ in due:
            self._put_off.pop(sequence, None)
            self.place.leases[sequence] = self.lease_end()
            self.place.deliveries[sequence] = self.place.deliveries.get(sequence, 0) + 1
            self.place.delivered = max(self.place.delivered, sequence)
        return [MemoryLeasedJob(self, *each) for each in due]

    async def stop(self) -> None:
        await self.recall(list(self._put_off))

    async def recall(self, sequences: Collection[int]) -> None:
        for sequence in sequences:
            if self._put_off.pop(sequence, None) is not None and sequence in self.place.leases:
                self.place.leases[sequence] = 0.0
        self.changes.tell()

    async def confirm(self) -> None: ...

    def _due(self, limit: int) -> list[tuple[int, bytes]]:
        now, place = self._clock.monotonic(), self.place
        due: list[tuple[int, bytes]] = []
        again = sorted(each for each, end in place.leases.items() if end <= now)
        for sequence in [*again, *place.above(place.delivered)]:
            if (payload := place.payload(sequence)) is None:
                place.leases.pop(sequence, None)  # it was removed while it was on lease
            elif len(due) < limit:
                due.append((sequence, payload))
        return due


class Changes:
    """Wakes everybody who waits for something to change."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, clock: Clock, at_most_s: float = math.inf) -> None:
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._changed.wait())]
        if at_most_s != math.inf:
            waits.append(asyncio.ensure_future(clock.sleep(at_most_s)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
