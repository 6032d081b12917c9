"""The fair cursor over real lanes: those of the store in memory, and those of nats-server."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import LeasedEvent
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.fair_cursor import FairCursor
from relume.eventing.jobs.job import Job, Limits, Priority, ServiceName
from relume.eventing.jobs.queue_clock import QueueClock
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import JobStore
from relume.eventing.jobs.testing import MemoryJobs

SERVICE = ServiceName("default", "smollm2")
CLOCK = SystemClock()


@pytest.fixture
def lease_s() -> float:
    """Longer than a busy machine takes to settle what was fetched ahead."""
    return 120.0


@pytest.fixture(params=["memory", "jetstream"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, lease_s: float
) -> AsyncIterator[JobStore]:
    settings = JobSettings(lease_s=lease_s)
    if request.param == "memory":
        yield MemoryJobs(settings, CLOCK)
        return
    async with NatsServer(tmp_path) as nats:
        jobs = await JetStreamJobs.connect([nats.url], settings, CLOCK)
        try:
            yield jobs
        finally:
            await jobs.close()


@dataclass
class Producer:
    store: JobStore
    count: int = 0

    async def submit(
        self, tenant: str, *, priority: Priority = "normal", limits: Limits | None = None
    ) -> Job:
        self.count += 1
        job = Job(
            id=f"job_{self.count}",
            service=SERVICE,
            route="/v1/completions",
            tenant=tenant,
            owner="",
            priority=priority,
            limits=limits or Limits(),
            accepted_at=CLOCK.now(),
            digest="d",
        )
        await self.store.submit(job, math.inf)
        return job


def job_of(leased: LeasedEvent) -> Job:
    return Job.from_envelope(Envelope.unpack(leased.payload))


async def fetched(cursor: FairCursor, count: int, within_s: float = 60.0) -> list[LeasedEvent]:
    """So many events, taken one after the other and settled, in the order in which they came."""
    got: list[LeasedEvent] = []
    async with asyncio.timeout(within_s):
        while len(got) < count:
            for leased in await cursor.fetch(min(4, count - len(got))):
                got.append(leased)
                await leased.settle()
    return got


async def test_small_tenants_are_served_beside_a_flood(store: JobStore) -> None:
    producer = Producer(store)
    for _ in range(120):
        await producer.submit("flood")
    for tenant in "abcde":
        for _ in range(4):
            await producer.submit(tenant)
    cursor = FairCursor(store, SERVICE, CLOCK)
    try:
        tenants = [job_of(each).tenant for each in await fetched(cursor, 140)]
    finally:
        await cursor.stop()
        await cursor.confirm()
    assert Counter(tenants) == {"flood": 120, **dict.fromkeys("abcde", 4)}
    last = max(place for place, tenant in enumerate(tenants) if tenant != "flood")
    assert last < 60  # 24 where all lanes are known at once


async def test_jobs_of_new_lanes_come_at_once_and_all_of_them(store: JobStore) -> None:
    producer = Producer(store)
    cursor = FairCursor(store, SERVICE, CLOCK)
    try:
        waiting = asyncio.create_task(fetched(cursor, 30))
        for number in range(30):
            await producer.submit(f"t{number % 7}", priority="low" if number % 2 else "high")
        names = [job_of(each).id for each in await waiting]
    finally:
        await cursor.stop()
    assert len(set(names)) == 30


@pytest.mark.parametrize("lease_s", [1.0])
async def test_a_job_whose_gateway_died_comes_to_another_one(store: JobStore) -> None:
    producer = Producer(store)
    await producer.submit("a")
    dead, other = FairCursor(store, SERVICE, CLOCK), FairCursor(store, SERVICE, CLOCK)
    try:
        async with asyncio.timeout(60):
            [first] = await dead.fetch(4)
            await dead.stop()
            [again] = await other.fetch(4)
        assert first.sequence == again.sequence
        assert again.generation > first.generation
        await again.settle()
    finally:
        await dead.stop()
        await other.stop()


async def test_a_paused_queue_waits_and_its_overdue_jobs_end(store: JobStore) -> None:
    producer = Producer(store)
    await store.pause(SERVICE, True)
    cursor = FairCursor(store, SERVICE, CLOCK, look_s=0.1)
    overdue = await producer.submit("a", limits=Limits(queue_s=0.0))
    young = await producer.submit("a")
    try:
        fetching = asyncio.create_task(cursor.fetch(4))
        clock = QueueClock(store, lambda: cursor.counts, CLOCK)
        async with asyncio.timeout(60):
            while not (ended := await clock.look()):  # until the lane has been counted
                await asyncio.sleep(0.05)
        assert ended == 1
        assert not fetching.done()
        assert (await store.look(overdue.id)).state == "expired"
        assert (await store.look(young.id)).state == "queued"
        await store.pause(SERVICE, False)
        async with asyncio.timeout(60):
            got = [job_of(each).id for each in await fetching]
            while len(got) < 2:
                got += [job_of(each).id for each in await cursor.fetch(4)]
        assert sorted(got) == sorted([overdue.id, young.id])
    finally:
        await cursor.stop()
