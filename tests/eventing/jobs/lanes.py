"""Lanes that hold any number of jobs in no memory, shared by any number of gateways."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.job import Priority, ServiceName
from relume.eventing.jobs.store import Lane

SERVICE = ServiceName("default", "smollm2")


def lane(tenant: str, priority: Priority = "normal") -> Lane:
    return Lane(SERVICE, priority, tenant)


@dataclass(eq=False)
class LeasedJob:
    """A job on lease; its payload is the name of its lane's tenant."""

    queue: "Queue"
    sequence: int
    generation: int = 1

    @property
    def payload(self) -> bytes:
        return self.queue.lane.tenant.encode()

    @property
    def tenant(self) -> str:
        return self.queue.lane.tenant

    async def settle(self) -> None:
        self.queue.on_lease.discard(self.sequence)
        self.queue.settled += 1

    async def give_back(self) -> None:
        self.queue.on_lease.discard(self.sequence)
        self.queue.again.append((self.sequence, self.generation + 1))
        self.queue.given_back += 1
        self.queue.tell()

    async def extend(self) -> None: ...


@dataclass(eq=False)
class Queue:
    """One lane: `waiting` jobs that nobody ever had, and those that come again."""

    lane: Lane
    numbers: "itertools.count[int]"
    waiting: int = 0
    on_lease: set[int] = field(default_factory=set)
    again: deque[tuple[int, int]] = field(default_factory=deque)
    settled: int = 0
    given_back: int = 0
    asked: int = 0  # by all cursors together, and the most of it at one time
    most_asked: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def take(self, limit: int) -> list[LeasedJob]:
        taken: list[LeasedJob] = []
        while len(taken) < limit and (self.again or self.waiting):
            if self.again:
                taken.append(LeasedJob(self, *self.again.popleft()))
            else:
                self.waiting -= 1
                taken.append(LeasedJob(self, next(self.numbers)))
        self.on_lease |= {each.sequence for each in taken}
        return taken


class LaneCursor:
    """As the cursor of a lane in the store."""

    inherited = (0, 0)

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.stops = self.confirms = 0

    @property
    def waiting(self) -> int:
        return self.queue.waiting

    async def fetch(self, limit: int) -> Sequence[LeasedJob]:
        self.queue.asked += limit
        self.queue.most_asked = max(self.queue.most_asked, self.queue.asked)
        try:
            while not (taken := self.queue.take(limit)):
                await self.queue.changed.wait()
            return taken
        finally:
            self.queue.asked -= limit

    async def stop(self) -> None:
        self.stops += 1

    async def confirm(self) -> None:
        self.confirms += 1


class Lanes:
    """The part of a JobStore that a FairCursor needs."""

    def __init__(self, waiting: Mapping[Lane, int] | None = None) -> None:
        self.numbers = itertools.count(1)
        self.queues: dict[Lane, Queue] = {}
        self.cursors: list[LaneCursor] = []
        self.stopped: set[ServiceName] = set()
        self.available = True
        self.claimed: dict[Lane, int] = {}  # counts that are wrong by now
        self.counted = 0  # lanes, over all calls
        self.heard = True  # whether new lanes are told of
        self.new = asyncio.Event()
        for each, count in (waiting or {}).items():
            self.add(each, count)

    def add(self, each: Lane, count: int = 1) -> None:
        queue = self.queues.setdefault(each, Queue(each, self.numbers))
        queue.waiting += count
        queue.tell()
        self.new.set()
        self.new = asyncio.Event()

    async def lanes(self, service: ServiceName) -> Mapping[Lane, int]:
        self._check()
        self.counted += len(self.queues)
        return {each: queue.waiting for each, queue in self.queues.items()} | self.claimed

    async def each_lane(self, service: ServiceName) -> AsyncIterator[Lane]:
        self._check()
        told: set[Lane] = set()
        while True:
            new = self.new
            for each in [each for each in self.queues if self.heard and each not in told]:
                told.add(each)
                yield each
            await new.wait()

    async def paused(self) -> frozenset[ServiceName]:
        self._check()
        return frozenset(self.stopped)

    async def open_lane(self, each: Lane) -> LaneCursor:
        self._check()
        self.cursors.append(LaneCursor(self.queues[each]))
        return self.cursors[-1]

    def _check(self) -> None:
        if not self.available:
            raise StoreUnavailable("away")
