"""Which replies are one and the same, and where loops end (B2, B5, B6)."""

import asyncio

import pytest
from aiohttp import web

from relume.config import Delivery, Destination, Exact
from relume.eventing.envelope import Envelope, identity
from relume.eventing.testing import MemoryLeasedEvent
from tests.eventing.stage import BROKER, BrokerStage, Call, Subscriber, answer, event, trigger

ASK = (Exact({"type": "ask"}),)


def about(call: Call) -> web.Response:
    """What a service with two routes answers: the id says which request, not which route."""
    return answer(event(f"re-{call.event.id}", type="reply", source="/service"))


async def answers(call: Call) -> web.StreamResponse:
    return about(call)


async def test_two_triggers_that_ask_one_service_get_two_answers() -> None:
    async with Subscriber(answers) as service, Subscriber() as told:
        triggers = [
            trigger("summarize", f"{service.url}summarize", filters=ASK),
            trigger("embed", f"{service.url}embed", filters=ASK),
            trigger("log", told.url, filters=(Exact({"type": "reply"}),)),
        ]
        async with BrokerStage(triggers) as stage:
            await stage.post(event("1"))
            await stage.until("delivered", 2)
            assert told.ids == ["re-1", "re-1"]


async def test_the_answer_to_a_repeated_delivery_is_no_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Subscriber(answers) as service, Subscriber() as told:
        ask = trigger("ask", service.url, filters=ASK)
        log = trigger("log", told.url, filters=(Exact({"type": "reply"}),))

        async def lost(held: MemoryLeasedEvent) -> None:
            return None

        stage = BrokerStage([ask, log])
        await stage.__aenter__()
        with monkeypatch.context() as patch:
            patch.setattr(MemoryLeasedEvent, "settle", lost)  # the process dies after it answered
            await stage.post(event("1"))
            await stage.until("delivered")
            await stage.plane.stop(0)
        async with BrokerStage([ask, log], log=stage.log, clock=stage.clock) as again:
            await again.virtual.advance(20)
            await again.until("duplicate")
            assert service.ids == ["1", "1"]
            assert again.memory.buried(BROKER) == 0


async def test_an_echo_through_two_triggers_ends() -> None:
    async def echo(call: Call) -> web.StreamResponse:
        return answer(call.event)

    async with (
        Subscriber(echo) as one,
        Subscriber(echo) as two,
        BrokerStage([trigger("one", one.url), trigger("two", two.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("duplicate", 4)
        assert (len(one.calls), len(two.calls)) == (3, 3)


def test_a_reply_is_named_by_its_trigger_too() -> None:
    reply = event("1")
    names = {identity(reply), identity(reply, "a"), identity(reply, "b")}
    assert len(names) == 3
    assert Envelope.unpack(Envelope(reply, via="a").pack()) == Envelope(reply)


async def test_dead_letters_that_come_back_to_their_broker_end_among_its_dead_letters() -> None:
    async def into_the_broker(call: Call) -> web.StreamResponse:
        return answer(status=(await stage.post(call.event)).status_code)

    async with Subscriber(answer(status=400)) as asked, Subscriber(into_the_broker) as broker:
        delivery = Delivery(dead_letter_sink=Destination(uri=broker.url))
        stage = BrokerStage([trigger("t", asked.url, delivery=delivery)])
        async with stage, asyncio.timeout(60):
            await stage.post(event("1", knativebrokerttl=6))
            records = await stage.until("dead-lettered", 5)
            assert len(asked.calls) == 5
            assert f"kept by the Broker: {broker.url} failed" in str(records[-1].detail)
            assert stage.memory.buried(BROKER) == 1
