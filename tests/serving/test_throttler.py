"""Checklist A6: who gets which replica when."""

import asyncio
import random

import pytest

from relume.serving.throttler import (
    EVENT_ID_CHARACTERS,
    Backend,
    Throttler,
    Waiter,
)


def throttler(limit: int, replicas: int = 0) -> Throttler:
    made = Throttler(limit, random.Random(1))
    for number in range(replicas):
        made.add(Backend(number, f"http://replica-{number}"))
    return made


def granted(waiters: list[Waiter]) -> list[int | None]:
    return [w.granted.result().replica if w.granted.done() else None for w in waiters]


async def test_without_a_limit_the_first_ready_replica_releases_everyone_at_once() -> None:
    gate = throttler(0)
    waiters = [gate.enqueue(0, None) for _ in range(100)]
    assert gate.held == 100
    backend = Backend(7, "http://replica")
    gate.add(backend)
    assert granted(waiters) == [7] * 100
    assert (gate.held, backend.in_flight) == (0, 100)


async def test_a_waiter_keeps_the_beginning_of_a_long_event_id() -> None:
    waiter = throttler(0).enqueue(0, "x" * 1_000_000)
    assert waiter.event_id == "x" * EVENT_ID_CHARACTERS


async def test_a_limit_releases_that_many_per_replica_and_the_rest_waits_its_turn() -> None:
    gate = throttler(2)
    waiters = [gate.enqueue(0, None) for _ in range(7)]
    one, other = Backend(1, "http://one"), Backend(2, "http://two")
    gate.add(one)
    gate.add(other)
    assert granted(waiters) == [1, 1, 2, 2, None, None, None]
    gate.release(other)
    assert granted(waiters)[4:] == [2, None, None]


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_small_limit_takes_the_first_replica_with_room(limit: int) -> None:
    gate = throttler(limit, replicas=2)
    taken = [gate.try_acquire() for _ in range(2 * limit)]
    assert [b.replica for b in taken if b] == [0] * limit + [1] * limit
    assert gate.try_acquire() is None


async def test_a_larger_limit_goes_round() -> None:
    gate = throttler(4, replicas=3)
    taken = [gate.try_acquire() for _ in range(6)]
    assert [b.replica for b in taken if b] == [0, 1, 2, 0, 1, 2]


async def test_round_robin_skips_a_full_replica() -> None:
    gate = throttler(4, replicas=2)
    taken = [gate.try_acquire() for _ in range(8)]
    assert taken[0] is not None
    gate.release(taken[0])
    again = gate.try_acquire()
    assert again is not None
    assert again.replica == 0


async def test_without_a_limit_the_less_busy_of_two_is_chosen() -> None:
    gate = throttler(0, replicas=2)
    for _ in range(100):
        gate.try_acquire()
    busy = gate.try_acquire()
    assert busy is not None
    assert 40 < busy.in_flight < 60


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    gate = throttler(1, replicas=1)
    first = gate.try_acquire()
    assert first is not None
    waiter = gate.enqueue(0, None)
    assert gate.try_acquire() is None
    gate.release(first)
    assert granted([waiter]) == [0]


async def test_a_cancelled_request_leaves_the_queue_and_uses_nothing() -> None:
    gate = throttler(1)
    waiters = [gate.enqueue(0, None) for _ in range(2)]
    tasks = [asyncio.create_task(gate.granted(w)) for w in waiters]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert gate.held == 1
    gate.add(Backend(1, "http://replica"))
    assert (await tasks[1]).replica == 1


async def test_a_request_cancelled_as_it_is_granted_gives_its_place_to_the_next() -> None:
    gate = throttler(1)
    waiters = [gate.enqueue(0, None) for _ in range(2)]
    tasks = [asyncio.create_task(gate.granted(w)) for w in waiters]
    await asyncio.sleep(0)
    gate.add(Backend(1, "http://replica"))
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    backend = await tasks[1]
    assert backend.in_flight == 1


async def test_a_cancelled_request_is_passed_over_before_it_has_noticed() -> None:
    gate = throttler(1)
    waiters = [gate.enqueue(0, None) for _ in range(2)]
    tasks = [asyncio.create_task(gate.granted(w)) for w in waiters]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.add(Backend(1, "http://replica"))
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert (await tasks[1]).in_flight == 1


async def test_a_failure_reaches_everyone_who_waits() -> None:
    gate = throttler(1)
    waiters = [gate.enqueue(0, None) for _ in range(3)]
    gate.fail(ValueError("no"))
    for waiter in waiters:
        with pytest.raises(ValueError, match="no"):
            await gate.granted(waiter)
    assert gate.held == 0


async def test_a_replica_that_is_taken_away_gets_nothing_more() -> None:
    gate = throttler(1, replicas=2)
    gate.remove(0)
    taken = gate.try_acquire()
    assert taken is not None
    assert taken.replica == 1
    assert gate.try_acquire() is None
