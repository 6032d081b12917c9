"""A dead letter on its second way through its Trigger, delivered for real."""

import asyncio
from collections.abc import Coroutine

import pytest
from aiohttp import web

from relume.config import Delivery, Destination, Exact
from relume.eventing.dead_letters import Letter, NoSuchDeadLetter
from relume.eventing.event_log import BrokerKey

from .stage import BROKER, BrokerStage, Call, Subscriber, answer, event, reply_to, trigger


async def test_only_the_trigger_that_gave_it_up_gets_it_again_and_its_reply_is_stored() -> None:
    async with (
        Subscriber(answer(status=422), _reply) as failing,
        Subscriber() as other,
        BrokerStage([trigger("t", failing.url), trigger("u", other.url)]) as stage,
    ):
        await stage.post(event("1", b"data", subject="s"))
        await stage.until("dead-lettered")
        await stage.plane.dead_letters.redrive(BROKER, 1)
        [told] = await stage.until("redriven")
        assert (told.trigger, told.detail) == ("t", "dead letter 1")
        [replied] = await stage.until("replied")
        assert replied.event.id == "re-1"
        assert failing.ids[:2] == ["1", "1"]
        assert failing.calls[0].event == failing.calls[1].event
        assert failing.calls[1].header("ce-knativeerrordest") is None
        assert "re-1" in await _ids(other)
        assert other.ids.count("1") == 1
        assert stage.memory.buried(BROKER) == 0


async def test_the_filter_is_not_asked_a_second_time() -> None:
    async with Subscriber(answer(status=422), answer()) as subscriber:
        async with BrokerStage([trigger("t", subscriber.url)]) as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
        narrow = trigger("t", subscriber.url, filters=(Exact({"type": "another"}),))
        async with BrokerStage([narrow], log=stage.log, clock=stage.clock) as stage:
            await stage.plane.dead_letters.redrive(BROKER, 1)
            await stage.until("delivered")
            assert subscriber.ids == ["1", "1"]


async def test_what_fails_again_is_a_dead_letter_again_and_carries_no_trace_of_the_first() -> None:
    async with (
        Subscriber(answer(status=422), answer(status=410), answer()) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        sent = event("1", subject="s")
        await stage.post(sent)
        await stage.until("dead-lettered")
        await stage.plane.dead_letters.redrive(BROKER, 1)
        await stage.until("dead-lettered")
        again = await stage.plane.dead_letters.get(BROKER, 2)
        assert again.code == 410
        await stage.plane.dead_letters.redrive(BROKER, 2)
        await stage.until("delivered")
        assert stage.memory.buried(BROKER) == 0
        last = subscriber.calls[-1].event
        assert {name: last.attributes[name] for name in sent.attributes} == sent.attributes
        assert set(last.attributes) - set(sent.attributes) == {"knativearrivaltime"}


async def test_a_sink_that_was_added_since_gets_the_event_without_our_mark() -> None:
    async with Subscriber(answer(status=422)) as subscriber, Subscriber() as sink:
        async with BrokerStage([trigger("t", subscriber.url)]) as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
        delivery = Delivery(retry=0, dead_letter_sink=Destination(uri=sink.url))
        async with BrokerStage(
            [trigger("t", subscriber.url)], delivery, log=stage.log, clock=stage.clock
        ) as stage:
            await stage.plane.dead_letters.redrive(BROKER, 1)
            await stage.until("dead-lettered")
            assert sink.ids == ["1"]
            assert stage.memory.buried(BROKER) == 0


async def test_a_redrive_at_the_end_of_a_process_is_delivered_by_the_next_once() -> None:
    async with Subscriber(answer(status=422), answer()) as subscriber:
        async with BrokerStage([trigger("t", subscriber.url)]) as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
            store = stage.memory.dead_letters
            await store.put_back(await store.get(BROKER, 1))  # and killed before the removal
        async with BrokerStage(
            [trigger("t", subscriber.url)], log=stage.log, clock=stage.clock
        ) as stage:
            await stage.plane.dead_letters.redrive(BROKER, 1)
            await stage.until("delivered")
            assert subscriber.ids == ["1", "1"]
            assert stage.memory.buried(BROKER) == 0
            with pytest.raises(NoSuchDeadLetter):
                await stage.plane.dead_letters.redrive(BROKER, 1)


async def test_a_redrive_that_is_held_up_does_not_repeat_what_another_has_done_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        Subscriber(answer(status=422), answer()) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dead-lettered")
        store = stage.memory.dead_letters
        read, go = asyncio.Event(), asyncio.Event()
        get = store.get

        async def slow_once(broker: BrokerKey, sequence: int) -> Letter:
            letter = await get(broker, sequence)
            monkeypatch.setattr(store, "get", get)
            read.set()
            await go.wait()
            return letter

        monkeypatch.setattr(store, "get", slow_once)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.plane.dead_letters.redrive(BROKER, 1))
            await read.wait()
            second = group.create_task(_tried(stage.plane.dead_letters.redrive(BROKER, 1)))
            purge = group.create_task(_tried(stage.plane.dead_letters.remove(BROKER, 1)))
            await asyncio.sleep(0)
            go.set()
        assert (first.result().sequence, second.result(), purge.result()) == (1, False, False)


async def _tried(act: Coroutine[object, object, object]) -> bool:
    """Whether there still was such a dead letter."""
    try:
        await act
    except NoSuchDeadLetter:
        return False
    return True


async def _reply(call: Call) -> web.StreamResponse:
    return reply_to(call.event) if call.event.id == "1" else answer()


async def _ids(subscriber: Subscriber) -> list[str]:
    async with asyncio.timeout(60):
        while "re-1" not in subscriber.ids:
            await asyncio.sleep(0.01)
    return subscriber.ids
