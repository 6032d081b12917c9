"""Order within a lane, whatever order events come in."""

import asyncio
from collections import defaultdict

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from relume.config import Delivery, Exact
from relume.eventing.delivery.turns import Turn, Turns, lane_of, partition_of
from relume.eventing.testing import MemoryLeasedEvent
from tests.eventing.stage import BROKER, BrokerStage, Call, Subscriber, answer, event, trigger


def begun(turns: dict[int, Turn]) -> set[int]:
    return {sequence for sequence, turn in turns.items() if turn.granted.is_set()}


def test_one_event_of_a_lane_at_a_time() -> None:
    turns = Turns(0, 0)
    held = {n: turns.join(n, "a" if n < 3 else "b") for n in (1, 2, 3)}
    assert begun(held) == {1, 3}
    turns.end(held[1])
    assert begun(held) == {1, 2, 3}


def test_an_event_waits_for_those_before_it_that_have_not_come() -> None:
    turns = Turns(0, 10)
    held = {12: turns.join(12, "a")}
    assert (begun(held), turns.waiting) == (set(), 1)
    held[11] = turns.join(11, "a")
    assert (begun(held), turns.waiting) == ({11}, 0)
    turns.end(held.pop(11))
    assert begun(held) == {12}


def test_what_an_earlier_process_held_comes_first() -> None:
    turns = Turns(2, 10)
    held = {n: turns.join(n, "a") for n in (11, 9)}
    assert begun(held) == set()
    held[4] = turns.join(4, "a")
    assert begun(held) == {4}
    turns.end(held[4])
    assert begun(held) == {4, 9}


def test_an_event_that_nobody_wants_keeps_nobody_waiting() -> None:
    turns = Turns(1, 1)
    held = {3: turns.join(3, "a")}
    turns.skip(2)
    turns.skip(2)
    assert begun(held) == set()
    turns.skip(1)
    assert begun(held) == {3}


def test_what_is_gone_is_not_waited_for_for_ever() -> None:
    turns = Turns(1, 5)
    held = {n: turns.join(n, "a") for n in (9, 7)}
    turns.wait_no_longer()
    assert (begun(held), turns.waiting) == ({7}, 0)
    turns.end(held[7])
    held[6] = turns.join(6, "b")
    assert begun(held) == {6, 7, 9}


def test_who_gives_up_passes_its_turn_on() -> None:
    turns = Turns(0, 0)
    held = {n: turns.join(n, "a") for n in (1, 2, 3, 5)}
    turns.end(held[2])
    turns.end(held[5])
    assert begun(held) == {1}
    turns.end(held[1])
    turns.skip(4)
    turns.end(held[3])
    assert begun(held) == {1, 3}


@given(st.data())
def test_every_event_gets_its_turn_in_order_however_they_come(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    up_to = data.draw(st.integers(0, count))
    inherited = data.draw(st.sets(st.integers(1, up_to))) if up_to else set()
    new = range(up_to + 1, count + 1)
    arrival = data.draw(st.permutations([*inherited, *new]))
    lanes = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    turns, held, order = Turns(len(inherited), up_to), {}, defaultdict(list)
    for sequence in arrival:
        held[sequence] = turns.join(sequence, lanes[sequence - 1])
        while (running := begun(held)) and data.draw(st.booleans()):
            done = data.draw(st.sampled_from(sorted(running)))
            assert len({lanes[n - 1] for n in running}) == len(running)
            order[lanes[done - 1]].append(done)
            turns.end(held.pop(done))
    while running := begun(held):
        done = min(running)
        order[lanes[done - 1]].append(done)
        turns.end(held.pop(done))
    assert not held
    assert all(line == sorted(line) for line in order.values())


def test_a_lane_is_a_partition_key_or_a_partition() -> None:
    keyed, bare = event("1", partitionkey="k"), event("2")
    assert lane_of(keyed, 1, None) == lane_of(keyed, 2, None) == "k"
    assert lane_of(bare, 1, None) != lane_of(bare, 2, None)
    assert lane_of(keyed, 1, 10) == lane_of(keyed, 2, 10) == partition_of(keyed, 3, 10)
    assert [lane_of(bare, n, 10) for n in (9, 10, 11)] == [9, 0, 1]


KEYS = st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8)
FAILURES = st.dictionaries(st.integers(0, 7), st.integers(1, 3))


@settings(max_examples=15, deadline=None)
@given(KEYS, FAILURES, st.integers(1, 4))
def test_events_of_one_key_are_delivered_in_order_also_when_they_fail(
    keys: list[str | None], failures: dict[int, int], at_once: int
) -> None:
    asyncio.run(delivered_in_order(keys, failures, at_once))


async def delivered_in_order(
    keys: list[str | None], failures: dict[int, int], at_once: int
) -> None:
    left, ended, running = dict(failures), defaultdict(list), defaultdict(int)

    async def subscriber(call: Call) -> web.StreamResponse:
        number, key = int(call.event.id), call.event.attributes.get("partitionkey")
        running[key] += 1
        assert key is None or running[key] == 1
        await asyncio.sleep(0)
        running[key] -= 1
        if left.get(number, 0) > 0:
            left[number] -= 1
            if failures[number] < 3 or left[number]:
                return answer(status=503)
        ended[key].append(number)
        return answer()

    delivery = Delivery(retry=3, backoff_delay_s=1.0)
    async with Subscriber(subscriber) as asked:
        t = trigger("t", asked.url, delivery=delivery, ordered=True)
        async with BrokerStage([t], concurrency=lambda _: at_once) as stage:
            for number, key in enumerate(keys):
                named = {} if key is None else {"partitionkey": key}
                await stage.post(event(str(number), **named))
            async with asyncio.timeout(60):
                while stage.status("t")["delivered"] != len(keys):
                    await stage.virtual.advance(1)
    assert all(ended[key] == sorted(ended[key]) for key in ("a", "b"))


async def test_different_keys_do_not_wait_for_each_other() -> None:
    async def fails_a(call: Call) -> web.StreamResponse:
        return answer(status=503 if call.event.attributes["partitionkey"] == "a" else 200)

    delivery = Delivery(retry=1, backoff_delay_s=60.0)
    async with Subscriber(fails_a) as asked:
        t = trigger("t", asked.url, delivery=delivery, ordered=True)
        async with BrokerStage([t]) as stage:
            for number, key in enumerate("aab"):
                await stage.post(event(str(number), partitionkey=key))
            await stage.until("retrying")
            [record] = await stage.until("delivered")
            assert record.event.id == "2"
            assert sorted(asked.ids) == ["0", "2"]
            await stage.virtual.advance(60)  # the first is given up, and the second begins
            await stage.until("dead-lettered")
            await stage.until("retrying")
            assert sorted(asked.ids) == ["0", "0", "1", "2"]


async def test_the_next_process_begins_with_what_the_last_one_held() -> None:
    reached = asyncio.Event()

    async def hangs(call: Call) -> web.StreamResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Subscriber(hangs, answer()) as asked:
        t = trigger("t", asked.url, ordered=True)
        stage = BrokerStage([t])
        await stage.__aenter__()
        for number in range(3):
            await stage.post(event(str(number), partitionkey="k"))
        await reached.wait()
        await stage.plane.stop(0)
        async with BrokerStage([t], log=stage.log) as again:
            await again.post(event("3", partitionkey="k"))
            await again.until("delivered", 4)
    assert asked.ids == ["0", "0", "1", "2", "3"]


async def test_what_a_process_held_that_died_comes_before_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached = asyncio.Event()

    async def hangs(call: Call) -> web.StreamResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def lost(held: MemoryLeasedEvent) -> None:
        return None

    async with Subscriber(hangs, answer()) as asked:
        t = trigger("t", asked.url, ordered=True)
        stage = BrokerStage([t])
        await stage.__aenter__()
        for number in range(3):
            await stage.post(event(str(number), partitionkey="k"))
        await reached.wait()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryLeasedEvent, "give_back", lost)
            await stage.plane.stop(0)
        async with BrokerStage([t], log=stage.log, clock=stage.clock) as again:
            await again.post(event("3", partitionkey="k"))
            await again.virtual.advance(5)
            assert asked.ids == ["0"]
            await again.virtual.advance(6)  # the leases of the dead process end
            await again.until("delivered", 4)
    assert asked.ids == ["0", "0", "1", "2", "3"]


async def test_events_that_the_trigger_does_not_want_hold_nobody_up() -> None:
    async with Subscriber() as asked:
        t = trigger("t", asked.url, ordered=True, filters=(Exact({"type": "ask"}),))
        async with BrokerStage([t]) as stage:
            for number in range(6):
                type_ = "ask" if number % 2 else "other"
                await stage.post(event(str(number), partitionkey="k", type=type_))
            await stage.until("delivered", 3)
    assert asked.ids == ["1", "3", "5"]


async def test_an_event_that_left_the_log_holds_nobody_up_for_long() -> None:
    async with Subscriber() as asked:
        t = trigger("t", asked.url, ordered=True)
        async with BrokerStage([t]) as stage:
            stage.memory.cursor(BROKER, "t")._next += 1  # as if the first event had been removed
            await stage.post(event("lost", partitionkey="k"))
            await stage.post(event("1", partitionkey="k"))
            await stage.virtual.advance(10)
            assert asked.ids == []
            await stage.virtual.advance(15)
            await stage.until("delivered")
            assert asked.ids == ["1"]
