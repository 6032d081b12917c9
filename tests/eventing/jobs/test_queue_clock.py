"""Jobs that wait too long are ended, whether a worker comes or not."""

import asyncio
import math

import pytest

from relume.base.testing import VirtualClock
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.queue_clock import QueueClock
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Cancelled, Leased, Record, next_round, step
from relume.eventing.jobs.store import Lane, Waiting
from relume.eventing.jobs.testing import MemoryJobs

SERVICE = ServiceName("default", "smollm2")
LANE = Lane(SERVICE, "normal", "t")


class Counted(MemoryJobs):
    """Counts how often the head of a lane was read."""

    heads = 0
    available = True

    async def oldest(self, lane: Lane, after: int = 0) -> Waiting | None:
        self.heads += 1
        if not self.available:
            raise StoreUnavailable("away")
        return await super().oldest(lane, after)


class Stage:
    """A store with a queue clock that runs."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = Counted(JobSettings(), self.clock)
        self.told: list[Record] = []
        self.counts: dict[Lane, int] = {}
        self.queue_clock = QueueClock(
            self.store, lambda: self.counts, self.clock, on_expired=self.told.append
        )

    async def submit(self, name: str, queue_s: float, tenant: str = "t") -> Job:
        job = Job(
            id=f"job_{name}",
            service=SERVICE,
            route="/v1/completions",
            tenant=tenant,
            owner="",
            priority="normal",
            limits=Limits(queue_s=queue_s),
            accepted_at=self.clock.now(),
            digest="d",
        )
        await self.store.submit(job, math.inf)
        self.counts |= await self.store.lanes(SERVICE)
        return job

    async def state(self, job: Job) -> str:
        return (await self.store.look(job.id)).state

    async def pass_s(self, seconds: float) -> None:
        """Let time pass while the queue clock runs."""
        task = asyncio.create_task(self.queue_clock.run())
        await self.clock.advance(seconds)
        task.cancel()
        await asyncio.wait([task])


async def test_an_overdue_job_is_expired_within_a_second_and_says_why() -> None:
    stage = Stage()
    job = await stage.submit("a", 30)
    await stage.pass_s(29.9)
    assert await stage.state(job) == "queued"
    await stage.pass_s(1.1)
    record = (await stage.store.look(job.id)).record
    assert record is not None
    assert (record.state, record.reason, record.started) == ("expired", "queue", False)
    assert stage.told == [record]


async def test_all_overdue_jobs_of_all_lanes_are_ended_and_no_other() -> None:
    stage = Stage()
    old = [await stage.submit(f"{t}{n}", 5, t) for t in "ab" for n in range(20)]
    young = [await stage.submit(f"{t}x", 500, t) for t in "ab"]
    await stage.pass_s(7)
    assert {await stage.state(job) for job in old} == {"expired"}
    assert {await stage.state(job) for job in young} == {"queued"}
    assert len(stage.told) == 40


async def test_one_lane_with_many_does_not_keep_the_others_waiting() -> None:
    stage = Stage()
    for number in range(250):
        await stage.submit(f"{number}", 5, "many")
    other = await stage.submit("other", 5, "one")
    await stage.clock.advance(6)
    assert await stage.queue_clock.look() == 101
    assert await stage.state(other) == "expired"
    assert [await stage.queue_clock.look() for _ in range(3)] == [100, 50, 0]


async def test_a_leased_job_is_left_to_its_worker() -> None:
    stage = Stage()
    job = await stage.submit("a", 5)
    await stage.store.write(step(None, job, Leased(1, "w", stage.clock.now())), 0)
    await stage.pass_s(10)
    assert await stage.state(job) == "leased"
    assert stage.told == []


async def test_a_worker_that_leases_at_the_same_moment_keeps_the_job() -> None:
    stage = Stage()
    job = await stage.submit("a", 5)
    look = stage.store.look

    async def look_and_lose(job_id: str) -> object:
        seen = await look(job_id)
        await stage.store.write(step(None, job, Leased(1, "w", stage.clock.now())), 0)
        return seen

    stage.store.look = look_and_lose  # type: ignore[assignment, method-assign]
    await stage.clock.advance(6)
    assert await stage.queue_clock.look() == 0
    stage.store.look = look  # type: ignore[method-assign]
    assert await stage.state(job) == "leased"


async def test_a_cancelled_job_at_the_head_is_passed_over() -> None:
    stage = Stage()
    first, second = await stage.submit("a", 5), await stage.submit("b", 5)
    await stage.store.write(step(None, first, Cancelled(stage.clock.now())), 0)
    await stage.pass_s(7)
    assert [await stage.state(first), await stage.state(second)] == ["cancelled", "expired"]


async def test_a_retried_job_waits_from_its_retry_on() -> None:
    stage = Stage()
    job = await stage.submit("a", 5)
    await stage.pass_s(7)
    seen = await stage.store.look(job.id)
    assert seen.record is not None
    await stage.store.requeue(next_round(seen.record, job, stage.clock.now()), seen.place)
    await stage.pass_s(4)
    assert await stage.state(job) == "queued"
    await stage.pass_s(2)
    record = (await stage.store.look(job.id)).record
    assert record is not None
    assert (record.state, record.round) == ("expired", 2)


async def test_a_head_is_not_read_every_second_while_it_has_time() -> None:
    stage = Stage()
    await stage.submit("a", 3600)
    await stage.pass_s(60.5)
    assert 6 <= stage.store.heads <= 8


async def test_a_shorter_time_behind_a_head_that_was_leased_is_seen() -> None:
    stage = Stage()
    await stage.submit("a", 3600)
    short = await stage.submit("b", 5)
    await stage.pass_s(6)
    assert await stage.state(short) == "queued"  # it is not the head
    cursor = await stage.store.open_lane(LANE)
    await cursor.fetch(1)
    await stage.pass_s(11)
    assert await stage.state(short) == "expired"


async def test_a_job_that_was_given_back_is_ended_and_one_that_was_leased_is_not() -> None:
    stage = Stage()
    jobs = [await stage.submit(name, 30) for name in "abcd"]
    await stage.store.pause(SERVICE, True)
    cursor = await stage.store.open_lane(LANE)
    first, *others = await cursor.fetch(3)
    await stage.store.write(step(None, jobs[0], Leased(1, "w", stage.clock.now())), 0)
    for leased in others:
        await leased.give_back()
    stage.counts = dict(await stage.store.lanes(SERVICE))
    assert (stage.counts, await stage.store.running(SERVICE)) == ({LANE: 3}, 1)
    await stage.pass_s(29.5)
    assert {await stage.state(job) for job in jobs[1:]} == {"queued"}
    await stage.pass_s(1.5)
    assert [await stage.state(job) for job in jobs] == ["leased", *["expired"] * 3]
    await first.give_back()
    await stage.pass_s(30)
    assert await stage.state(jobs[0]) == "leased"


async def test_a_store_that_is_away_is_asked_again() -> None:
    stage = Stage()
    job = await stage.submit("a", 5)
    stage.store.available = False
    await stage.pass_s(10)
    stage.store.available = True
    await stage.pass_s(1.5)
    assert await stage.state(job) == "expired"


async def test_two_clocks_end_a_job_once() -> None:
    stage = Stage()
    jobs = [await stage.submit(f"{number}", 5) for number in range(10)]
    other = QueueClock(stage.store, lambda: stage.counts, stage.clock, on_expired=stage.told.append)
    await stage.clock.advance(6)
    ended = await asyncio.gather(stage.queue_clock.look(), other.look())
    assert sum(ended) == len(stage.told) == len(jobs)


@pytest.mark.parametrize(("queue_s", "state"), [(0.0, "expired"), (math.inf, "queued")])
async def test_any_time_is_heeded(queue_s: float, state: str) -> None:
    stage = Stage()
    job = await stage.submit("a", queue_s)
    await stage.pass_s(0.5)
    assert await stage.state(job) == state
