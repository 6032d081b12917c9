"""From the ingress through the log and the dispatcher to HTTP subscribers and back (B2 to B7)."""

import asyncio

import pytest
from aiohttp import web

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode
from relume.config import Delivery, Exact
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BrokerStage, Call, Subscriber, answer, event, trigger

ASK = (Exact({"type": "ask"}),)
REPLY = (Exact({"type": "reply"}),)


def reply_to(request: CloudEvent, **attributes: object) -> CloudEvent:
    return CloudEvent.create(
        {
            "id": f"re-{request.id}",
            "source": "/subscriber",
            "type": "reply",
            "causationid": request.id,
            **attributes,
        },
        b"answer",
    )


async def replies(call: Call) -> web.StreamResponse:
    return answer(reply_to(call.event))


async def test_the_subscriber_sees_the_event_and_what_a_broker_adds() -> None:
    data = b'{"n": 12345678901234567890123 }\n'
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        sent = event(
            "1", data, datacontenttype="application/json", subject="Grüße", traceparent="x"
        )
        response = await stage.post(sent, x_request_id="r-1", x_b3_traceid="b", x_other="no")
        assert response.status_code == 202
        await stage.until("delivered")
        [call] = subscriber.calls
        assert call.body == data
        arrival = call.event.attributes["knativearrivaltime"]
        assert arrival == "2026-01-01T00:00:00.000Z"
        assert call.event == sent.with_attributes(knativearrivaltime=arrival)
        assert call.header("prefer") == "reply"
        assert call.header("kn-namespace") == "default"
        assert call.header("x-request-id") == "r-1"
        assert call.header("x-b3-traceid") == "b"
        assert call.header("x-other") is None


async def test_an_event_without_a_content_type_gets_none() -> None:
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1", b"raw"))
        await stage.until("delivered")
        assert subscriber.calls[0].header("content-type") is None


async def test_the_trace_of_the_request_goes_on_in_the_event() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"), traceparent=parent, tracestate="a=b")
        await stage.until("delivered")
        attributes = subscriber.calls[0].event.attributes
        assert (attributes["traceparent"], attributes["tracestate"]) == (parent, "a=b")


async def test_a_reply_goes_back_into_the_broker_and_to_every_trigger_that_wants_it() -> None:
    async with (
        Subscriber(replies) as asked,
        Subscriber() as told,
        BrokerStage(
            [
                trigger("ask", asked.url, filters=ASK),
                trigger("log", told.url, filters=REPLY),
            ]
        ) as stage,
    ):
        await stage.post(event("1"))
        records = await stage.until("delivered")
        assert asked.ids == ["1"]
        assert told.calls[0].event.attributes["causationid"] == "1"
        assert told.calls[0].body == b"answer"
        assert "knativebrokerttl" not in told.calls[0].event.attributes
        assert records[0].trigger == "log"
        stages = [record.stage for record in stage.seen if record.event.id == "re-1"]
        assert stages == ["replied", "accepted", "delivering", "delivered"]


@pytest.mark.parametrize("policy", ["linear", "exponential"])
async def test_a_failure_is_tried_again_after_its_backoff(policy: str) -> None:
    delivery = Delivery(retry=3, backoff_policy=policy, backoff_delay_s=0.5)  # type: ignore[arg-type]
    expected = {"linear": [0.0, 0.5, 1.0], "exponential": [0.5, 1.0, 2.0]}[policy]
    script = [answer(status=status) for status in (404, 503, 409)]
    async with (
        Subscriber(*script, answer()) as subscriber,
        BrokerStage([trigger("t", subscriber.url, delivery=delivery)]) as stage,
    ):
        await stage.post(event("1"))
        for attempt, wait in enumerate(expected, 1):
            [record] = await stage.until("retrying")
            assert (record.attempt, record.detail) == (
                attempt,
                f"status {(404, 503, 409)[attempt - 1]}, again in {wait:g} s",
            )
            await stage.virtual.advance(wait)
        await stage.until("delivered")
        assert subscriber.ids == ["1"] * 4
        assert stage.status("t")["retried"] == 3


async def test_nothing_is_tried_again_before_its_time() -> None:
    delivery = Delivery(retry=1, backoff_delay_s=2.0)
    async with (
        Subscriber(answer(status=500), answer()) as subscriber,
        BrokerStage([trigger("t", subscriber.url, delivery=delivery)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("retrying")
        await stage.virtual.advance(1.9)
        assert len(subscriber.calls) == 1
        assert stage.status("t")["in_flight"] == 1
        await stage.virtual.advance(0.2)
        await stage.until("delivered")


async def test_the_body_of_a_202_is_no_reply() -> None:
    async with (
        Subscriber(answer(event("2"), status=202)) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("delivered")
        assert subscriber.ids == ["1"]


async def test_each_attempt_has_its_own_timeout() -> None:
    async def never(_: Call) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    # Many tries: on a busy machine the answer to the second one may also come too late.
    delivery = Delivery(retry=100, backoff_delay_s=0.0, timeout_s=0.1)
    async with (
        Subscriber(never, answer()) as subscriber,
        BrokerStage([trigger("t", subscriber.url, delivery=delivery)]) as stage,
    ):
        await stage.post(event("1"))
        [record] = await stage.until("retrying")
        assert (record.status, record.detail) == (None, "no answer in time, again in 0 s")
        await stage.until("delivered")


async def test_a_reply_that_is_too_large_is_not_read_to_its_end() -> None:
    huge = web.Response(body=b"x" * 5000, headers={"ce-id": "1"})
    async with (
        Subscriber(huge) as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url)], settings=EventingSettings(max_event_bytes=4096)
        ) as stage,
    ):
        await stage.post(event("1"))
        [record] = await stage.until("dead-lettered")
        assert record.detail is not None and "larger than 4096 bytes" in record.detail


async def test_a_loop_of_replies_ends_with_the_time_to_live() -> None:
    async def again(call: Call) -> web.StreamResponse:
        return answer(reply_to(call.event, type="ask"))

    async with (
        Subscriber(again) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.post(event("1", knativebrokerttl=5))
        [record] = await stage.until("dead-lettered")
        assert len(subscriber.calls) == 4
        assert record.event.attributes["deadletterreason"] == "ttl-exhausted"


async def test_an_answer_that_repeats_the_event_goes_around_once() -> None:
    async def echo(call: Call) -> web.StreamResponse:
        return answer(call.event)

    async with Subscriber(echo) as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"))
        await stage.until("duplicate")
        assert len(subscriber.calls) == 2


async def test_a_repeated_event_is_accepted_and_not_delivered_again() -> None:
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"))
        await stage.until("delivered")
        for mode in (Mode.BINARY, Mode.STRUCTURED):
            assert (await stage.post(event("1"), mode)).status_code == 202
        await stage.until("duplicate", 2)
        assert subscriber.ids == ["1"]
        assert stage.status("t")["pending"] == 0


async def test_every_matching_trigger_gets_its_own_delivery() -> None:
    async with (
        Subscriber() as one,
        Subscriber() as two,
        Subscriber() as three,
        BrokerStage(
            [
                trigger("one", one.url),
                trigger("two", two.url, filters=ASK),
                trigger("three", three.url, filters=REPLY),
            ]
        ) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("delivered", 2)
        assert (len(one.calls), len(two.calls), len(three.calls)) == (1, 1, 0)
        assert stage.status("three")["filtered"] == 1
