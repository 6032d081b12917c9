"""Sequences and Parallels (checklist B11 and B13), on the engine that delivers to Triggers."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from relume.base.vocabulary import KNATIVE_EVENTING_V1, KNATIVE_FLOWS_V1
from relume.cloudevents.event import CloudEvent
from relume.config import (
    Branch,
    Delivery,
    Destination,
    ParallelFlow,
    Plan,
    Ref,
    SequenceFlow,
    Step,
)
from relume.eventing.dead_letters import redrive
from relume.eventing.event_log import BrokerKey
from relume.eventing.observer import WHOLE_BYTES

from .stage import BROKER, BrokerStage, Call, Handler, Subscriber, answer, event, trigger

ENTRY = "/default/s-kn-sequence-0"
TO_BROKER = Destination(ref=Ref("Broker", "default", "b", KNATIVE_EVENTING_V1))
BROKER_FLAKY = Delivery(retry=2, backoff_policy="exponential", backoff_delay_s=1.0)


def adds(word: str, id_: str | None = None) -> Handler:
    """A function that answers with the data it got and a word more."""

    async def handler(call: Call) -> web.StreamResponse:
        came = call.event
        data = (came.data or b"") + word.encode()
        reply = CloudEvent.create(
            {"id": id_ or f"{came.id}.{word}", "source": f"/{word}", "type": word}, data
        )
        return answer(reply)

    return handler


def sequence(*urls: str, **spec: Any) -> Plan:
    steps = tuple(Step(Destination(uri=url)) for url in urls)
    return Plan(sequences=(SequenceFlow("default", "s", steps, **spec),))


def parallel(*branches: Branch, **spec: Any) -> Plan:
    return Plan(parallels=(ParallelFlow("default", "p", branches, **spec),))


def to(url: str) -> Destination:
    return Destination(uri=url)


def brokers(stage: BrokerStage) -> dict[str, dict[str, object]]:
    listed = stage.plane.status()["brokers"]
    assert isinstance(listed, list)
    return {each["name"]: each for each in listed}


# ---- Sequence: knative/eventing pkg/reconciler/sequence


async def test_b11_each_step_gets_what_the_step_before_it_answered() -> None:
    async with (
        Subscriber(adds("one")) as one,
        Subscriber(adds("two")) as two,
        Subscriber() as end,
        BrokerStage([], more=sequence(one.url, two.url, end.url)) as stage,
    ):
        assert (await stage.post(event("1", b"zero "), path=ENTRY)).status_code == 202
        await stage.until("delivered")
    assert [call.body for call in end.calls] == [b"zero onetwo"]
    assert end.calls[0].event.type == "two"


async def test_a_long_answer_of_a_step_is_read_from_the_log_that_has_it() -> None:
    long = CloudEvent.create({"id": "2", "source": "/f", "type": "t"}, b"x" * (WHOLE_BYTES + 1))

    async def handler(call: Call) -> web.StreamResponse:
        return answer(long)

    async with (
        Subscriber(handler) as first,
        Subscriber() as second,
        BrokerStage([], more=sequence(first.url, second.url)) as stage,
    ):
        await stage.post(event("1"), path=ENTRY)
        told = (await stage.until("replied"))[-1].shortened()
        assert told.bytes == WHOLE_BYTES + 1
        assert told.key is not None
        found = await stage.plane.recall(BrokerKey(*told.broker.split("/")), told.key)
    assert found is not None
    assert found.event.data == long.data


async def test_b11_a_step_that_answers_nothing_ends_the_sequence() -> None:
    async with (
        Subscriber() as one,
        Subscriber() as two,
        BrokerStage([], more=sequence(one.url, two.url)) as stage,
    ):
        await stage.post(event("1"), path=ENTRY)
        await stage.until("delivered")
        assert stage.status("s-kn-sequence-1")["pending"] == 0
    assert not two.calls


async def test_b11_without_a_reply_the_answer_of_the_last_step_is_for_nobody() -> None:
    async with Subscriber(adds("one")) as one, BrokerStage([], more=sequence(one.url)) as stage:
        await stage.post(event("1"), path=ENTRY)
        [record] = await stage.until("delivered")
    assert record.status == 200
    assert stage.status("s-kn-sequence-0")["replied"] == 0


async def test_b11_the_reply_goes_into_a_broker_and_to_its_triggers() -> None:
    async with Subscriber(adds("one")) as one, Subscriber() as reader:
        flow = sequence(one.url, reply=TO_BROKER)
        async with BrokerStage([trigger("t", reader.url)], more=flow) as stage:
            await stage.post(event("1"), path=ENTRY)
            await stage.until("delivered")
            assert brokers(stage)["b"]["accepted"] == 1
    assert reader.ids == ["1.one"]


async def test_b11_a_reply_to_a_uri_is_stored_first_and_tried_again_without_the_step() -> None:
    step = Step(to(""), BROKER_FLAKY)
    async with Subscriber(adds("one")) as one, Subscriber(answer(status=503), answer()) as end:
        flow = SequenceFlow(
            "default", "s", (replace(step, subscriber=to(one.url)),), reply=to(end.url)
        )
        async with BrokerStage([], more=Plan(sequences=(flow,))) as stage:
            await stage.post(event("1"), path=ENTRY)
            await stage.until("retrying")
            await stage.virtual.advance(1)
            await stage.until("delivered")
            assert stage.status("s-kn-sequence-0-reply")["delivered"] == 1
    assert (one.ids, end.ids) == (["1"], ["1.one", "1.one"])


async def test_b11_a_sequence_can_be_the_reply_of_a_sequence_and_a_step_of_another() -> None:
    ref = Ref("Sequence", "default", "s", KNATIVE_FLOWS_V1)
    async with Subscriber(adds("one")) as one, Subscriber() as end:
        first = SequenceFlow("default", "first", (Step(to(one.url)),), reply=Destination(ref=ref))
        second = SequenceFlow("default", "s", (Step(to(end.url)),))
        async with BrokerStage([], more=Plan(sequences=(first, second))) as stage:
            await stage.post(event("1"), path="/default/first-kn-sequence-0")
            await stage.until("delivered")
    assert end.ids == ["1.one"]


# ---- delivery of a step: knative/eventing pkg/reconciler/subscription, deliverySpec


async def test_b11_a_step_without_a_delivery_is_tried_once_and_its_event_is_kept() -> None:
    """A Channel without a delivery does not retry, and loses the event; here it is kept."""
    async with (
        Subscriber(answer(status=503)) as one,
        BrokerStage([], more=sequence(one.url)) as stage,
    ):
        await stage.post(event("1"), path=ENTRY)
        [record] = await stage.until("dead-lettered")
        assert brokers(stage)["s-kn-sequence-0"]["dead_letters"] == 1
    assert (len(one.calls), record.trigger) == (1, "s-kn-sequence-0")
    assert record.broker == "default/s-kn-sequence-0"


async def test_b11_the_delivery_of_the_channel_template_counts_for_a_step_without_one() -> None:
    async with Subscriber(answer(status=503), answer()) as one:
        flow = sequence(one.url, channel_delivery=BROKER_FLAKY)
        async with BrokerStage([], more=flow) as stage:
            await stage.post(event("1"), path=ENTRY)
            await stage.until("retrying")
            await stage.virtual.advance(1)
            await stage.until("delivered")


async def test_b11_a_step_has_its_own_dead_letter_sink_and_the_steps_after_it_never_see_it() -> (
    None
):
    async with Subscriber(answer(status=400)) as one, Subscriber() as two, Subscriber() as sink:
        delivery = Delivery(dead_letter_sink=to(sink.url))
        flow = SequenceFlow("default", "s", (Step(to(one.url), delivery), Step(to(two.url))))
        async with BrokerStage([], more=Plan(sequences=(flow,))) as stage:
            await stage.post(event("1"), path=ENTRY)
            await stage.until("dead-lettered")
    assert sink.ids == ["1"]
    assert sink.calls[0].event.attributes["knativeerrordest"] == one.url
    assert not two.calls


async def test_b11_a_dead_letter_of_a_step_is_redriven_through_that_step_and_goes_on() -> None:
    key = BrokerKey("default", "s-kn-sequence-1")
    async with (
        Subscriber(adds("one")) as one,
        Subscriber(answer(status=400), adds("two")) as two,
        Subscriber() as end,
        BrokerStage([], more=sequence(one.url, two.url, end.url)) as stage,
    ):
        await stage.post(event("1"), path=ENTRY)
        await stage.until("dead-lettered")
        letter = await redrive(stage.memory.dead_letters, key, 1)
        await stage.until("delivered")
    assert letter.trigger == "s-kn-sequence-1"
    assert (len(one.calls), len(two.calls), end.ids) == (1, 2, ["1.one.two"])


# ---- the identity of a reply


@pytest.mark.parametrize("ids", [None, "new"], ids=["the same id", "a new id each time"])
async def test_b11_a_repeated_delivery_stores_no_second_reply_whatever_its_id(
    ids: str | None,
) -> None:
    """Killed between storing the reply and settling the event: the step runs again, and that is
    all."""
    count = 0

    async def fresh(call: Call) -> web.StreamResponse:
        nonlocal count
        count += 1
        return await adds("one", f"random-{count}" if ids else None)(call)

    async with Subscriber(fresh) as one, Subscriber() as end:
        flow = sequence(one.url, end.url)
        async with BrokerStage([], more=flow) as stage:
            log = stage.memory
            key = BrokerKey("default", "s-kn-sequence-0")
            await stage.post(event("1"), path=ENTRY)
            await stage.until("delivered")
            cursor = log.cursor(key, "s-kn-sequence-0")
            cursor.leases[1] = 0.0  # as if the settlement had never been
        async with BrokerStage([], more=flow, log=log, clock=stage.clock) as again:
            cursor.changed.set()
            await again.until("duplicate")
            assert again.status("s-kn-sequence-1")["pending"] == 0
    assert (len(one.calls), len(end.calls)) == (2, 1)


async def test_b11_two_events_may_be_answered_with_the_same_id() -> None:
    """A function with a constant id answers two events: both answers go on."""
    async with (
        Subscriber(adds("one", "constant")) as one,
        Subscriber() as end,
        BrokerStage([], more=sequence(one.url, end.url)) as stage,
    ):
        for id_ in ("1", "2"):
            await stage.post(event(id_, id_.encode()), path=ENTRY)
        await stage.until("delivered", 2)
    assert sorted(call.body for call in end.calls) == [b"1one", b"2one"]


# ---- Parallel: knative/eventing pkg/reconciler/parallel


async def test_b13_every_branch_gets_the_event_and_a_filter_without_an_answer_says_no() -> None:
    async with (
        Subscriber(adds("yes")) as yes,
        Subscriber() as no,
        Subscriber() as first,
        Subscriber() as second,
        Subscriber() as third,
    ):
        flow = parallel(
            Branch(to(first.url), filter=to(yes.url)),
            Branch(to(second.url), filter=to(no.url)),
            Branch(to(third.url)),
        )
        async with BrokerStage([], more=flow) as stage:
            await stage.post(event("1"), path="/default/p-kn-parallel")
            # The filter that says no, and the subscribers of the other branches.
            records = await stage.until("delivered", 3)
    assert (first.ids, second.ids, third.ids) == (["1.yes"], [], ["1"])
    assert {record.trigger for record in records} == {
        "p-kn-parallel-0",
        "p-kn-parallel-filter-1",
        "p-kn-parallel-2",
    }


async def test_b13_a_branch_replies_to_its_own_destination_else_to_that_of_the_parallel() -> None:
    async with (
        Subscriber(adds("one")) as one,
        Subscriber(adds("two")) as two,
        Subscriber() as own,
        Subscriber() as common,
    ):
        flow = parallel(
            Branch(to(one.url), reply=to(own.url)), Branch(to(two.url)), reply=to(common.url)
        )
        async with BrokerStage([], more=flow) as stage:
            await stage.post(event("1"), path="/default/p-kn-parallel")
            await stage.until("delivered", 2)
    assert (own.ids, common.ids) == (["1.one"], ["1.two"])


async def test_b13_the_same_answer_of_two_branches_is_two_answers() -> None:
    async with Subscriber(adds("same", "same")) as same, Subscriber() as reader:
        flow = parallel(Branch(to(same.url)), Branch(to(same.url)), reply=TO_BROKER)
        async with BrokerStage([trigger("t", reader.url)], more=flow) as stage:
            await stage.post(event("1"), path="/default/p-kn-parallel")
            await stage.until("delivered", 2)
    assert reader.ids == ["same", "same"]


async def test_b13_the_delivery_of_a_branch_is_not_that_of_its_filter() -> None:
    """knative/eventing pkg/reconciler/parallel/resources/subscription.go, NewFilterSubscription."""
    async with Subscriber(answer(status=503)) as filter_, Subscriber() as subscriber:
        flow = parallel(Branch(to(subscriber.url), filter=to(filter_.url), delivery=BROKER_FLAKY))
        async with BrokerStage([], more=flow) as stage:
            await stage.post(event("1"), path="/default/p-kn-parallel")
            [record] = await stage.until("dead-lettered")
    assert record.trigger == "p-kn-parallel-filter-0"
    assert (len(filter_.calls), len(subscriber.calls)) == (1, 0)


async def test_b13_one_branch_that_fails_holds_up_no_other() -> None:
    release = asyncio.Event()

    async def hangs(call: Call) -> web.StreamResponse:
        await release.wait()
        return answer()

    async with Subscriber(hangs) as slow, Subscriber() as quick:
        flow = parallel(Branch(to(slow.url)), Branch(to(quick.url)))
        async with BrokerStage([], more=flow) as stage:
            await stage.post(event("1"), path="/default/p-kn-parallel")
            [record] = await stage.until("delivered")
            assert record.trigger == "p-kn-parallel-1"
            release.set()


# ---- what a plane says of them


async def test_the_status_names_the_flow_of_each_of_its_logs() -> None:
    flow = sequence("http://127.0.0.1:1/", "http://127.0.0.1:1/", reply=to("http://127.0.0.1:1/"))
    async with BrokerStage([], more=flow) as stage:
        listed = brokers(stage)
        names = [name for name in listed if "of" in listed[name]]
        assert {str(listed[name]["of"]) for name in names} == {"Sequence default/s"}
        assert names == ["s-kn-sequence-0", "s-kn-sequence-1", "s-kn-sequence-1-reply"]
        assert BROKER.name in listed
