"""What cannot be delivered, and where it ends (B4, B5, B6)."""

import base64
import socket
from dataclasses import replace

import pytest
from aiohttp import web

from relume.config import Delivery, Destination, Ref

from .stage import BROKER, BrokerStage, Subscriber, answer, event, trigger


async def test_what_cannot_be_delivered_goes_to_the_dead_letter_sink_with_the_reason() -> None:
    delivery_of = {"retry": 1, "backoff_delay_s": 0.0}
    body = b"x" * 2000
    async with (
        Subscriber(web.Response(status=503, body=body)) as subscriber,
        Subscriber(answer(status=500), answer(event("ignored"))) as sink,
    ):
        delivery = Delivery(**delivery_of, dead_letter_sink=Destination(uri=sink.url))  # type: ignore[arg-type]
        async with BrokerStage([trigger("t", subscriber.url)], delivery) as stage:
            sent = event("1", b"data", subject="s")
            await stage.post(sent)
            [record] = await stage.until("dead-lettered")
            assert len(subscriber.calls) == 2
            assert len(sink.calls) == 2
            dead = sink.calls[-1].event
            assert dead.data == b"data"
            assert dead.subject == "s"
            assert dead.attributes["knativeerrordest"] == subscriber.url
            assert dead.attributes["knativeerrorcode"] == "503"
            encoded = str(dead.attributes["knativeerrordata"])
            assert len(encoded) == 1024
            assert base64.b64decode(encoded) == body[:768]
            assert dead.attributes["deadletterreason"] == "retries-exhausted"
            assert (record.status, record.attempt) == (503, 2)
            assert stage.memory.buried(BROKER) == 0


@pytest.mark.parametrize("status", [300, 302, 400, 401, 403, 410, 413, 422])
async def test_a_refusal_is_not_tried_again(status: int) -> None:
    async with (
        Subscriber(web.Response(status=status, headers={"Location": "/again"})) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dead-lettered")
        assert len(subscriber.calls) == 1
        [dead] = await stage.buried()
        assert dead.event.attributes["knativeerrorcode"] == status
        assert dead.event.attributes["deadletterreason"] == "rejected"


@pytest.mark.parametrize(
    "response",
    [
        web.Response(body=b"plain", content_type="text/plain"),
        web.Response(body=b'{"a":1}', content_type="application/json"),
        web.Response(body=b"{", content_type="application/cloudevents+json"),
        web.Response(body=b"[]", content_type="application/cloudevents-batch+json"),
        web.Response(headers={"ce-id": "1"}),
    ],
)
async def test_an_answer_that_is_no_event_is_a_failure_without_retry(
    response: web.Response,
) -> None:
    async with (
        Subscriber(response) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dead-lettered")
        assert len(subscriber.calls) == 1
        [dead] = await stage.buried()
        assert dead.event.attributes["deadletterreason"] == "not-an-event"


async def test_a_sink_that_fails_leaves_the_dead_letter_with_the_broker() -> None:
    async with (
        Subscriber(answer(status=400)) as subscriber,
        Subscriber(answer(status=401)) as sink,
    ):
        delivery = Delivery(retry=5, dead_letter_sink=Destination(uri=sink.url))
        async with BrokerStage([trigger("t", subscriber.url, delivery=delivery)]) as stage:
            await stage.post(event("1"))
            [record] = await stage.until("dead-lettered")
            assert record.detail is not None and "kept by the Broker" in record.detail
            assert stage.memory.buried(BROKER) == 1


async def test_nobody_listening_is_tried_again_and_then_a_dead_letter() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        delivery = Delivery(retry=2, backoff_delay_s=0.0)
        async with BrokerStage([trigger("t", url, delivery=delivery)]) as stage:
            await stage.post(event("1"))
            await stage.until("retrying", 2)
            await stage.until("dead-lettered")
            [dead] = await stage.buried()
            assert dead.event.attributes["knativeerrorcode"] == -1
            assert dead.event.attributes["deadletterreason"] == "retries-exhausted"


@pytest.mark.parametrize("read", [False, True])
async def test_a_sink_that_is_a_broker_here_gets_what_a_trigger_of_it_reads(read: bool) -> None:
    """Where nobody reads it, the Broker that gave the event up keeps it, to be redriven."""
    async with Subscriber(answer(status=422)) as failing, Subscriber() as ingress:
        sink = Destination(ref=Ref("Broker", "default", "dead", "v1"))
        triggers = [trigger("t", failing.url, delivery=Delivery(dead_letter_sink=sink))]
        if read:
            triggers.append(replace(trigger("u", ingress.url), broker="dead"))

        def resolve(destination: Destination, _: str) -> str:
            return ingress.url if destination.ref else str(destination.uri)

        async with BrokerStage(triggers, more_brokers=["dead"], resolve=resolve) as stage:
            await stage.post(event("1"))
            [record] = await stage.until("dead-lettered")
            assert record.detail is not None
            assert ("kept by the Broker: nobody reads" in record.detail) is not read
            assert (ingress.ids, len(await stage.buried())) == ((["1"], 0) if read else ([], 1))
