"""The lanes of one service as one cursor: shares, room, new lanes, pauses, ends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from relume.base.testing import VirtualClock, settle
from relume.eventing.jobs.fair_cursor import FairCursor
from relume.eventing.jobs.store import JobStore, Lane
from tests.eventing.jobs.lanes import SERVICE, Lanes, LeasedJob, lane

MILLION = 1_000_000


@asynccontextmanager
async def fair(
    lanes: Lanes, clock: VirtualClock, *, idle_asks: int = 64
) -> AsyncIterator[FairCursor]:
    cursor = FairCursor(cast(JobStore, lanes), SERVICE, clock, idle_asks=idle_asks)
    try:
        yield cursor
    finally:
        await cursor.stop()


class Gateway:
    """A dispatcher with some slots: as many again are fetched ahead, and a job takes a second."""

    def __init__(self, cursor: FairCursor, clock: VirtualClock, slots: int) -> None:
        self.cursor = cursor
        self.clock = clock
        self.slots = asyncio.Semaphore(slots)
        self.room = 2 * slots
        self.done: list[str] = []
        self.most_held = self.held = 0
        self.changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                if self.held < self.room:
                    for leased in await self.cursor.fetch(self.room - self.held):
                        self.held += 1
                        self.most_held = max(self.most_held, self.held)
                        group.create_task(self.work(cast(LeasedJob, leased)))
                else:
                    self.changed.clear()
                    await self.changed.wait()

    async def work(self, leased: LeasedJob) -> None:
        async with self.slots:
            await self.clock.sleep(1)
            self.done.append(leased.tenant)
            await leased.settle()
        self.held -= 1
        self.changed.set()


@asynccontextmanager
async def gateways(*each: Gateway) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(gateway.run()) for gateway in each]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for gateway in each:
            await gateway.cursor.stop()


async def fetch_soon(cursor: FairCursor, limit: int) -> list[LeasedJob]:
    task = asyncio.create_task(cursor.fetch(limit))
    await settle()
    assert task.done()
    return [cast(LeasedJob, each) for each in task.result()]


async def test_ten_tenants_are_served_beside_a_million_jobs_of_another() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("flood"): MILLION})
    gateway = Gateway(FairCursor(cast(JobStore, lanes), SERVICE, clock), clock, slots=4)
    async with gateways(gateway):
        await clock.advance(10)
        assert set(gateway.done) == {"flood"}
        began = len(gateway.done)
        for number in range(10):
            lanes.add(lane(f"t{number}"), 10)
        await clock.advance(40)
        done = gateway.done[began:]
    # All slots were in use all the time.
    assert len(gateway.done) == 4 * 50
    counts = Counter(done)
    assert all(counts[f"t{number}"] == 10 for number in range(10))
    # 11 tenants with 10 jobs each; before them only what was fetched already, and one look later.
    last = max(place for place, tenant in enumerate(done) if tenant != "flood")
    assert last <= 11 * 10 + gateway.room + 2 * 4
    assert gateway.most_held <= gateway.room


async def test_a_flood_is_asked_for_no_more_than_there_is_room_for() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("flood"): MILLION})
    gateway = Gateway(FairCursor(cast(JobStore, lanes), SERVICE, clock), clock, slots=3)
    async with gateways(gateway):
        await clock.advance(20)
        [queue] = lanes.queues.values()
        assert queue.most_asked <= gateway.room
        assert len(queue.on_lease) <= gateway.room
    assert queue.given_back == 0


async def test_priorities_have_their_weights() -> None:
    clock = VirtualClock()
    lanes = Lanes({lane("a", "high"): MILLION, lane("b"): MILLION, lane("c", "low"): MILLION})
    gateway = Gateway(FairCursor(cast(JobStore, lanes), SERVICE, clock), clock, slots=4)
    async with gateways(gateway):
        await clock.advance(105)
    counts = Counter(gateway.done)
    assert counts["a"] == pytest.approx(320, abs=8)
    assert counts["b"] == pytest.approx(80, abs=4)
    assert counts["c"] == pytest.approx(20, abs=2)


async def test_a_job_in_an_empty_lane_comes_at_once() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        await settle()
        lanes.add(lane("a"))
        await settle()
        assert [each.payload for each in task.result()] == [b"a"]


async def test_a_job_in_a_new_lane_comes_at_once() -> None:
    clock, lanes = VirtualClock(), Lanes()
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        await settle()
        lanes.add(lane("a"))
        await settle()
        assert [each.payload for each in task.result()] == [b"a"]


async def test_many_lanes_are_counted_less_often() -> None:
    clock = VirtualClock()
    lanes = Lanes({lane(f"t{number}"): 0 for number in range(1000)})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        await clock.advance(59.5)
        assert 5_000 <= lanes.counted <= 7_000
        task.cancel()


async def test_a_new_lane_that_nobody_told_of_is_seen_at_the_next_look() -> None:
    clock, lanes = VirtualClock(), Lanes()
    lanes.heard = False
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        await clock.advance(0.5)
        lanes.add(lane("a"))
        await clock.advance(0.4)
        assert not task.done()
        await clock.advance(0.2)
        assert [each.payload for each in task.result()] == [b"a"]
        lanes.add(lane("b"))
        cursor.expect(lane("b"))
        assert [each.tenant for each in await fetch_soon(cursor, 5)] == ["b"]


async def test_many_jobs_in_an_empty_lane_are_found_without_a_look() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(100))
        await settle()
        lanes.add(lane("a"), 50)
        await settle()
        got = list(task.result())
        for _ in range(10):
            if len(got) < 50:
                got += await fetch_soon(cursor, 100 - len(got))
        assert len(got) == 50


async def test_a_job_whose_worker_died_comes_again_though_nothing_waits() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 1, lane("b"): 0})
    async with fair(lanes, clock) as dead, fair(lanes, clock) as other:
        [leased] = await fetch_soon(dead, 5)
        task = asyncio.create_task(other.fetch(5))
        await clock.advance(5)
        await dead.stop()
        await leased.give_back()  # its lease ran out
        await settle()
        assert [each.generation for each in task.result()] == [2]


async def test_what_there_is_no_room_for_is_given_back_within_two_looks() -> None:
    clock = VirtualClock()
    lanes = Lanes({lane(f"t{number}"): 0 for number in range(20)})
    async with fair(lanes, clock) as full, fair(lanes, clock) as free:
        task = asyncio.create_task(full.fetch(1))
        await settle()
        for each in lanes.queues:
            lanes.add(each)
        await settle()
        assert len(task.result()) == 1
        got = 0
        waits = asyncio.create_task(free.fetch(100))
        for _ in range(4):
            await clock.advance(1)
            if waits.done():
                got += len(waits.result())
                waits = asyncio.create_task(free.fetch(100))
        waits.cancel()
        # One was handed out, and another one fetched ahead of it is taken or given back.
        assert got == 19


async def test_two_gateways_do_all_jobs_once() -> None:
    clock = VirtualClock()
    lanes = Lanes({lane(f"t{number}"): 30 for number in range(10)})
    both = [
        Gateway(FairCursor(cast(JobStore, lanes), SERVICE, clock), clock, slots=5) for _ in range(2)
    ]
    async with gateways(*both):
        await clock.advance(33)
        assert sum(len(each.done) for each in both) == 300
        assert sum(queue.settled for queue in lanes.queues.values()) == 300
        assert all(len(each.done) > 100 for each in both)


async def test_more_lanes_than_are_asked_at_once_take_turns() -> None:
    clock = VirtualClock()
    lanes = Lanes({lane(f"t{number}"): 0 for number in range(12)})
    async with fair(lanes, clock, idle_asks=4) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        seen: set[Lane] = set()
        for _ in range(120):
            await clock.advance(1)
            asked = {each for each, queue in lanes.queues.items() if queue.asked}
            assert len(asked) <= 4
            seen |= asked
        assert seen == set(lanes.queues)
        task.cancel()


async def test_a_lane_that_is_gone_is_closed() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0, lane("b"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(5))
        await settle()
        gone = lanes.queues.pop(lane("b"))
        await clock.advance(2)
        assert list(cursor.counts) == [lane("a")]
        assert gone.asked == 0
        assert [each.stops for each in lanes.cursors] == [0, 1]
        task.cancel()


async def test_a_paused_service_leases_nothing_and_resumes() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 3})
    async with fair(lanes, clock) as cursor:
        await cursor.pause(True)
        lanes.stopped.add(SERVICE)
        task = asyncio.create_task(cursor.fetch(5))
        await clock.advance(5)
        assert not task.done()
        assert lanes.queues[lane("a")].asked == 0
        lanes.stopped.clear()
        await clock.advance(1)
        assert len(task.result()) == 3


async def test_a_pause_by_another_gateway_is_noticed_and_gives_back_what_was_not_begun() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0, lane("b"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(1))
        await settle()
        lanes.add(lane("a"))
        lanes.add(lane("b"))
        await settle()
        assert len(task.result()) == 1
        lanes.stopped.add(SERVICE)
        await clock.advance(1)
        assert cursor.paused
        assert sum(len(queue.again) for queue in lanes.queues.values()) == 1
        task = asyncio.create_task(cursor.fetch(1))
        lanes.add(lane("a"))
        await clock.advance(3)
        assert not task.done()
        task.cancel()


async def test_a_store_that_is_away_is_asked_again() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 1})
    async with fair(lanes, clock) as cursor:
        lanes.available = False
        task = asyncio.create_task(cursor.fetch(5))
        cursor.expect(lane("a"))
        await clock.advance(3)
        assert not task.done()
        lanes.available = True
        await clock.advance(1)
        assert len(task.result()) == 1


async def test_an_unforeseen_fault_is_raised_where_somebody_fetches() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 1})
    async with fair(lanes, clock) as cursor:
        lanes.queues.clear()
        cursor.expect(lane("a"))
        with pytest.raises(KeyError):
            await cursor.fetch(5)


async def test_the_end_stops_all_lanes_gives_back_and_confirms_to_all() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0, lane("b"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(1))
        await settle()
        lanes.add(lane("a"))
        lanes.add(lane("b"))
        await settle()
        assert len(task.result()) == 1
        await cursor.stop()
        await cursor.stop()
        await cursor.confirm()
        assert [(each.stops, each.confirms) for each in lanes.cursors] == [(1, 1), (1, 1)]
        assert sum(len(queue.again) for queue in lanes.queues.values()) == 1
        assert not clock.sleeping


async def test_a_fetch_that_is_cancelled_loses_nothing() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0})
    async with fair(lanes, clock) as cursor:
        for _ in range(3):
            task = asyncio.create_task(cursor.fetch(5))
            await settle()
            task.cancel()
            await settle()
        lanes.add(lane("a"), 2)
        await settle()
        got = await fetch_soon(cursor, 5)
        while len(got) < 2:
            got += await fetch_soon(cursor, 5)
        assert len({each.sequence for each in got}) == 2


async def test_what_was_asked_for_and_has_not_come_holds_its_room() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0})
    lanes.claimed[lane("a")] = 100
    async with fair(lanes, clock) as cursor:
        for _ in range(3):
            task = asyncio.create_task(cursor.fetch(4))
            await settle()
            task.cancel()
            await settle()
        lanes.add(lane("a"))
        await settle()
        assert lanes.queues[lane("a")].asked == 3


async def test_what_others_were_faster_to_get_holds_its_room_until_the_next_look() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0})
    lanes.claimed[lane("a")] = 4
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(4))
        await settle()
        assert lanes.queues[lane("a")].asked == 4
        lanes.claimed.clear()
        lanes.add(lane("b"), 9)
        await settle()
        assert not task.done()
        await clock.advance(1)
        assert {cast(LeasedJob, each).tenant for each in task.result()} == {"b"}


async def test_lanes_are_asked_between_two_fetches_too() -> None:
    clock, lanes = VirtualClock(), Lanes({lane("a"): 0, lane("b"): 0})
    async with fair(lanes, clock) as cursor:
        task = asyncio.create_task(cursor.fetch(3))
        await settle()
        lanes.add(lane("a"))
        await settle()
        assert len(task.result()) == 1
        assert [queue.asked for queue in lanes.queues.values()] == [1, 1]
