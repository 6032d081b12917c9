"""A plane that runs takes over another plan: what is added, changed and removed while it works."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import web

from relume.base.errors import InvalidInput
from relume.config import (
    Broker,
    Delivery,
    Destination,
    PingSource,
    Ref,
    RequestReply,
    SequenceFlow,
    Step,
)
from relume.config.resources import Exact

from .stage import BROKER, BrokerStage, Call, Gate, Subscriber, answer, event, trigger
from .test_flows import adds


def to(url: str) -> Destination:
    return Destination(uri=url)


async def test_an_added_trigger_gets_what_comes_from_now_on_and_the_others_notice_nothing() -> None:
    async with (
        Subscriber() as one,
        Subscriber() as two,
        BrokerStage([trigger("one", one.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("delivered")
        both = (*stage.plan.triggers, trigger("two", two.url))
        await stage.change(replace(stage.plan, triggers=both))
        await stage.post(event("2"))
        await stage.until("delivered", 2)
        assert (stage.status("one")["delivered"], stage.status("two")["delivered"]) == (2, 1)
    assert (one.ids, two.ids) == (["1", "2"], ["2"])


async def test_a_delivery_ends_as_it_began_and_the_next_one_goes_to_the_changed_subscriber() -> (
    None
):
    gate = Gate()

    async with (
        Subscriber(gate) as old,
        Subscriber() as new,
        BrokerStage([trigger("t", old.url)]) as stage,
    ):
        await stage.post(event("1"))
        await gate.reached_by(1)
        changed = trigger("t", new.url, filters=(Exact({"type": "ask"}),))
        await stage.change(replace(stage.plan, triggers=(changed,)))
        await stage.post(event("2"))
        await stage.until("delivered")
        await stage.post(event("3", type="other"))
        gate.open.set()
        await stage.until("delivered")
        assert stage.status("t")["delivered"] == 2
        assert stage.status("t")["subscriber"] == new.url
    assert (old.ids, new.ids) == (["1"], ["2"])


async def test_a_retry_goes_to_the_changed_subscriber() -> None:
    """A URL that was wrong is corrected, and the event that is tried again profits from it."""
    delivery = Delivery(retry=1, backoff_policy="linear", backoff_delay_s=0.0)
    gate = Gate(status=500)

    async with (
        Subscriber(gate) as wrong,
        Subscriber() as right,
        BrokerStage([trigger("t", wrong.url, delivery=delivery)]) as stage,
    ):
        await stage.post(event("1"))
        await gate.reached_by(1)
        corrected = trigger("t", right.url, delivery=delivery)
        await stage.change(replace(stage.plan, triggers=(corrected,)))
        gate.open.set()
        await stage.until("delivered")
        assert not await stage.buried()
    assert (wrong.ids, right.ids) == (["1"], ["1"])


async def test_what_waits_for_a_slot_goes_to_the_changed_subscriber_by_the_changed_filter() -> None:
    gate = Gate()

    async with (
        Subscriber(gate) as old,
        Subscriber() as new,
        BrokerStage([trigger("t", old.url)], concurrency=lambda _: 1) as stage,
    ):
        for number, kind in enumerate(("ask", "other", "ask")):
            await stage.post(event(str(number), type=kind))
        await gate.reached_by(1)
        changed = trigger("t", new.url, filters=(Exact({"type": "ask"}),))
        await stage.change(replace(stage.plan, triggers=(changed,)))
        gate.open.set()
        await stage.until("delivered", 2)
        assert (stage.status("t")["delivered"], stage.status("t")["filtered"]) == (2, 1)
    assert (old.ids, new.ids) == (["0"], ["2"])


async def test_a_removed_trigger_ends_its_delivery_and_its_reply_is_stored_and_counted() -> None:
    gate = Gate(adds("answer"))

    async with Subscriber(gate) as gone, Subscriber() as stays:
        kept = trigger("stays", stays.url, filters=(Exact({"type": "answer"}),))
        async with BrokerStage([trigger("gone", gone.url), kept]) as stage:
            await stage.post(event("1"))
            await gate.reached_by(1)
            await stage.change(replace(stage.plan, triggers=(kept,)))
            await stage.post(event("2"))
            gate.open.set()
            await stage.until("delivered")
            triggers = stage.plane.status()["triggers"]
            assert isinstance(triggers, list)
            assert [each["name"] for each in triggers] == ["stays"]
            assert stage.accepted() == 3  # two events and the reply of the one that is gone
    assert (gone.ids, stays.ids) == (["1"], ["1.answer"])


async def test_a_broker_comes_and_goes_and_its_events_are_there_when_it_comes_again() -> None:
    async with Subscriber() as reader, BrokerStage([]) as stage:
        empty = stage.plan
        assert (await stage.post(event("1"), path="/default/new")).status_code == 404
        new = replace(
            empty,
            brokers=(*empty.brokers, Broker("default", "new")),
            triggers=(replace(trigger("t", reader.url), broker="new"),),
        )
        await stage.change(new)
        assert (await stage.post(event("1"), path="/default/new")).status_code == 202
        await stage.until("delivered")
        await stage.change(empty)
        assert (await stage.post(event("2"), path="/default/new")).status_code == 404
        await stage.change(new)
        assert (await stage.post(event("3"), path="/default/new")).status_code == 202
        await stage.until("delivered")
    assert reader.ids == ["1", "3"]


async def test_a_broker_that_comes_again_waits_for_the_deliveries_that_it_had_begun() -> None:
    """Else an ordered Trigger would wait for an event that is settled without it."""
    gate = Gate()

    async with Subscriber(gate) as reader, BrokerStage([]) as stage:
        empty = stage.plan
        new = replace(
            empty,
            brokers=(*empty.brokers, Broker("default", "new")),
            triggers=(replace(trigger("t", reader.url, ordered=True), broker="new"),),
        )
        await stage.change(new)
        await stage.post(event("1"), path="/default/new")
        await gate.reached_by(1)
        await stage.change(empty)
        again = asyncio.create_task(stage.change(new))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not again.done()
        gate.open.set()
        await again
        await stage.post(event("2"), path="/default/new")
        await stage.until("delivered", 2)
    assert reader.ids == ["1", "2"]


async def test_a_changed_delivery_counts_for_the_next_event_and_its_dead_letter_sink_too() -> None:
    async with (
        Subscriber(answer(status=400)) as bad,
        Subscriber() as sink,
        BrokerStage([trigger("t", bad.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dead-lettered")
        assert len(await stage.buried()) == 1
        delivery = Delivery(dead_letter_sink=to(sink.url))
        brokers = (Broker("default", "b", delivery=delivery),)
        await stage.change(replace(stage.plan, brokers=brokers))
        await stage.post(event("2"))
        await stage.until("dead-lettered")
        assert len(await stage.buried()) == 1
    assert sink.ids == ["2"]


async def test_a_sequence_gets_another_step() -> None:
    async with Subscriber(adds("one")) as one, Subscriber() as two, BrokerStage([]) as stage:
        steps = (Step(to(one.url)),)
        flow = SequenceFlow("default", "s", steps)
        await stage.change(replace(stage.plan, sequences=(flow,)))
        await stage.post(event("1"), path="/default/s-kn-sequence-0")
        await stage.until("delivered")
        longer = replace(flow, steps=(*steps, Step(to(two.url))))
        await stage.change(replace(stage.plan, sequences=(longer,)))
        await stage.post(event("2"), path="/default/s-kn-sequence-0")
        await stage.until("delivered")
        await stage.change(replace(stage.plan, sequences=()))
        gone = await stage.post(event("3"), path="/default/s-kn-sequence-0")
    assert gone.status_code == 404
    assert (one.ids, two.ids) == (["1", "2"], ["2.one"])


async def test_an_event_in_a_step_is_not_lost_when_the_next_step_is_removed() -> None:
    gate = Gate(adds("one"))

    to_broker = Destination(ref=Ref("Broker", "default", "b", "eventing.knative.dev/v1"))
    async with (
        Subscriber(gate) as one,
        Subscriber() as two,
        Subscriber() as end,
        BrokerStage([trigger("t", end.url)]) as stage,
    ):
        flow = SequenceFlow("default", "s", (Step(to(one.url)), Step(to(two.url))), to_broker)
        await stage.change(replace(stage.plan, sequences=(flow,)))
        await stage.post(event("1"), path="/default/s-kn-sequence-0")
        await gate.reached_by(1)
        shorter = replace(flow, steps=flow.steps[:1])
        await stage.change(replace(stage.plan, sequences=(shorter,)))
        gate.open.set()
        await stage.until("delivered")
    assert (one.ids, two.ids, end.ids) == (["1"], [], ["1.one"])


@pytest.mark.parametrize("whole", [False, True], ids=["the last step", "the whole flow"])
@pytest.mark.parametrize("where", ["in the last step", "on its way to the reply"])
async def test_the_answer_of_a_step_that_is_removed_reaches_the_uri_of_the_reply(
    where: str, whole: bool
) -> None:
    """On a cluster the dispatcher that has begun with an event brings its reply to the end."""
    step, end = Gate(adds("two")), Gate()
    (step if where == "on its way to the reply" else end).open.set()
    async with (
        Subscriber(adds("one")) as one,
        Subscriber(step) as two,
        Subscriber(end) as reply,
        BrokerStage([]) as stage,
    ):
        flow = SequenceFlow("default", "s", (Step(to(one.url)), Step(to(two.url))), to(reply.url))
        empty = stage.plan
        await stage.change(replace(empty, sequences=(flow,)))
        for number in ("1", "2"):
            await stage.post(event(number), path="/default/s-kn-sequence-0")
            await (end if step.open.is_set() else step).reached_by(1)
        shorter = () if whole else (replace(flow, steps=flow.steps[:1]),)
        await stage.change(replace(empty, sequences=shorter))
        step.open.set()
        end.open.set()
        async with asyncio.timeout(30):
            while len(reply.ids) < 2:
                await stage.virtual.advance(0.1)
                await asyncio.sleep(0.001)
        # What comes again goes on at once, and is not held up by a subscriber that is away.
        await stage.change(replace(empty, sequences=(flow,)))
        await stage.post(event("3"), path="/default/s-kn-sequence-0")
        await end.reached_by(1 if where == "on its way to the reply" else 3)
    assert sorted(reply.ids) == ["1.one.two", "2.one.two", "3.one.two"]


async def refuses(_: Call) -> web.StreamResponse:
    return answer(status=500)


async def test_a_flow_that_comes_again_does_not_wait_for_a_reply_that_nobody_takes() -> None:
    async with (
        Subscriber(adds("one")) as one,
        Subscriber(refuses) as reply,
        BrokerStage([]) as stage,
    ):
        flow = SequenceFlow("default", "s", (Step(to(one.url), Delivery(retry=5)),), to(reply.url))
        empty = stage.plan
        await stage.change(replace(empty, sequences=(flow,)))
        await stage.post(event("1"), path="/default/s-kn-sequence-0")
        await stage.until("retrying")
        await stage.change(empty)
        async with asyncio.timeout(30):
            await stage.change(replace(empty, sequences=(flow,)))


async def test_a_request_reply_comes_and_one_that_waits_is_sent_away_when_it_goes() -> None:
    path = "/request-reply/default/ask"
    async with Subscriber() as reader, BrokerStage([trigger("t", reader.url)]) as stage:
        assert (await stage.post(event("1"), path=path)).status_code == 404
        flow = RequestReply("default", "ask", "b", timeout_s=60.0)
        before = stage.plan
        await stage.change(replace(before, request_replies=(flow,)))
        asking = asyncio.create_task(stage.post(event("1"), path=path))
        await stage.until("delivered")
        await stage.change(before)
        gone = await asking
    assert (gone.status_code, gone.json()["reason"]) == (404, "unknown-request-reply")
    assert reader.ids == ["1"]


async def test_a_ping_source_comes_changes_and_goes() -> None:
    to_broker = Destination(ref=Ref("Broker", "default", "b", "eventing.knative.dev/v1"))
    ping = PingSource("default", "p", to_broker, "* * * * *", "UTC")
    async with BrokerStage([]) as stage:
        before, minute = stage.plan, timedelta(minutes=1).total_seconds()
        await stage.change(replace(before, ping_sources=(ping,)))
        await stage.virtual.advance(minute)
        assert stage.accepted() == 1
        twice = (ping, replace(ping, name="q"))
        await stage.change(replace(before, ping_sources=twice))
        await stage.virtual.advance(minute)
        assert stage.accepted() == 3
        await stage.change(before)
        await stage.virtual.advance(10 * minute)
        assert stage.accepted() == 3


async def test_a_destination_without_an_address_changes_nothing() -> None:
    async with Subscriber() as one, BrokerStage([trigger("t", one.url)]) as stage:

        def nowhere(destination: Destination, namespace: str) -> str:
            raise InvalidInput("no address")

        with pytest.raises(InvalidInput):
            stage.plane.resolve(stage.plan, nowhere, lambda _: None)
        await stage.post(event("1"))
        await stage.until("delivered")
    assert one.ids == ["1"]
    assert BROKER in stage.plane.brokers


async def test_what_a_failed_reload_has_prepared_is_forgotten_by_the_next_one() -> None:
    """Else the log would keep every event for a Trigger that never came."""
    async with Subscriber() as one, BrokerStage([trigger("t", one.url)]) as stage:
        more = replace(stage.plan, triggers=(*stage.plan.triggers, trigger("u", one.url)))
        await stage.plane.prepare(stage.plane.resolve(more, stage.resolve, stage.concurrency))
        assert stage.memory.triggers(BROKER) == {"t", "u"}
        await stage.change(stage.plan)
        assert stage.memory.triggers(BROKER) == {"t"}


async def test_how_many_events_a_subscriber_gets_at_once_follows_the_plan() -> None:
    gate = Gate()

    async with (
        Subscriber(gate) as one,
        BrokerStage([trigger("t", one.url)], concurrency=lambda _: 1) as stage,
    ):
        for number in range(4):
            await stage.post(event(str(number)))
        await stage.until("delivering")
        assert stage.status("t")["in_flight"] == 1
        stage.concurrency = lambda _: 3
        await stage.change(stage.plan)
        await stage.until("delivering", 2)
        assert stage.status("t")["in_flight"] == 3
        gate.open.set()
        await stage.until("delivered", 4)
