"""What a user sees of a profile on this machine: records, dead letters, attributes, concurrency."""

import asyncio
import base64

import pytest
from aiohttp import web

from relume.config import Delivery, Destination
from tests.eventing.stage import BROKER, BrokerStage, Call, Gate, Subscriber, answer, event, trigger

TEXT = web.Response(body=b"plain", content_type="text/plain")


async def busy(stage: BrokerStage, subscriber: Subscriber, count: int) -> None:
    """Wait for `count` deliveries to run, and see that there are no more."""
    async with asyncio.timeout(60):
        while subscriber.running < count:
            await stage.virtual.advance(0)
    await stage.virtual.advance(0)
    assert subscriber.running == count


@pytest.mark.parametrize(
    ("broker_class", "annotations", "expected"),
    [
        (None, {}, 2),
        (None, {"parallelism": 1}, 1),
        ("MTChannelBasedBroker", {}, 60),
        ("Kafka", {}, 50),
        ("Kafka", {"ordered": True}, 10),
        ("RabbitMQBroker", {}, 1),
        ("RabbitMQBroker", {"parallelism": 7}, 7),
        ("NatsJetStreamBroker", {}, 1),
    ],
)
async def test_b8_only_the_strict_broker_asks_what_the_subscriber_can_take(
    broker_class: str | None, annotations: dict[str, int], expected: int
) -> None:
    held = Gate()
    async with Subscriber(held) as subscriber:
        t = trigger("t", subscriber.url, **annotations)
        async with BrokerStage([t], broker_class=broker_class, concurrency=lambda _: 2) as stage:
            for number in range(60):
                await stage.post(event(str(number)))
            await busy(stage, subscriber, expected)
            held.open.set()


@pytest.mark.parametrize(
    ("broker_class", "blocked"),
    [(None, False), ("NatsJetStreamBroker", False), ("RabbitMQBroker", True)],
)
async def test_b8_who_waits_for_its_next_attempt_keeps_its_place_with_some(
    broker_class: str | None, blocked: bool
) -> None:
    async def fails_the_first(call: Call) -> web.StreamResponse:
        return answer(status=503 if call.event.id == "first" else 200)

    delivery = Delivery(retry=1, backoff_policy="linear", backoff_delay_s=60.0)
    async with Subscriber(fails_the_first) as subscriber:
        t = trigger("t", subscriber.url, delivery=delivery)
        async with BrokerStage([t], broker_class=broker_class, concurrency=lambda _: 1) as stage:
            await stage.post(event("first"))
            await stage.post(event("second"))
            await stage.until("retrying")
            if blocked:
                await stage.virtual.advance(59)
                assert subscriber.ids == ["first"]
                await stage.virtual.advance(1)
                await stage.until("dropped")
            [record] = await stage.until("delivered")
            assert record.event.id == "second"


@pytest.mark.parametrize(
    ("broker_class", "response", "why"),
    [
        ("MTChannelBasedBroker", answer(status=400), "profile mt: rejected:  (no sink)"),
        ("Kafka", answer(status=400), "profile kafka: rejected:  (no sink)"),
        ("Kafka", TEXT, "profile kafka: not-an-event: the reply is no event"),
        ("RabbitMQBroker", answer(status=400), "profile rabbitmq: status 400 counts as delivered"),
        ("NatsJetStreamBroker", answer(status=503), "profile nats: retries-exhausted:  (no sink)"),
        ("NatsJetStreamBroker", answer(status=404), "profile nats: rejected:  (no sink)"),
    ],
)
async def test_b6_what_a_cluster_would_lose_is_lost_and_told(
    broker_class: str, response: web.Response, why: str
) -> None:
    async with (
        Subscriber(response) as subscriber,
        BrokerStage([trigger("t", subscriber.url)], broker_class=broker_class) as stage,
    ):
        await stage.post(event("1"))
        [record] = await stage.until("dropped")
        assert record.detail is not None and why in record.detail
        assert stage.memory.buried(BROKER) == 0
        assert stage.status("t")["dropped"] == 1
        assert len(subscriber.calls) == 1


async def test_b6_a_sink_that_fails_loses_the_event_with_kafka() -> None:
    async with Subscriber(answer(status=400)) as asked, Subscriber(answer(status=401)) as sink:
        delivery = Delivery(retry=1, dead_letter_sink=Destination(uri=sink.url))
        async with BrokerStage([trigger("t", asked.url)], delivery, broker_class="Kafka") as stage:
            await stage.post(event("1"))
            [record] = await stage.until("dropped")
            assert record.detail is not None and f"({sink.url} failed)" in record.detail
            assert len(sink.calls) == 1


async def test_b6_a_dead_letter_of_kafka() -> None:
    failed = web.Response(status=400, body=b"x" * 2000)
    async with Subscriber(failed) as asked, Subscriber() as sink:
        delivery = Delivery(dead_letter_sink=Destination(uri=sink.url))
        async with BrokerStage([trigger("t", asked.url)], delivery, broker_class="Kafka") as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
            attributes = sink.calls[0].event.attributes
            assert attributes["knativeerrorcode"] == "400"
            assert base64.b64decode(str(attributes["knativeerrordata"])) == b"x" * 1024
            assert attributes["knativekafkaoffset"] == "1"
            assert "deadletterreason" not in attributes


async def test_b2_kafka_tells_the_subscriber_where_the_event_lay() -> None:
    async with (
        Subscriber() as subscriber,
        BrokerStage([trigger("t", subscriber.url)], broker_class="Kafka") as stage,
    ):
        for number in range(2):
            await stage.post(event(str(number), partitionkey="k"))
        await stage.until("delivered", 2)
        one, two = sorted((call.event for call in subscriber.calls), key=lambda e: e.id)
        assert [e.attributes["knativekafkaoffset"] for e in (one, two)] == ["1", "2"]
        partitions = {e.attributes["knativekafkapartition"] for e in (one, two)}
        assert len(partitions) == 1
        assert 0 <= int(str(partitions.pop())) < 10
        assert "knativebrokerttl" not in one.attributes


async def test_b2_nothing_ends_a_loop_of_replies_with_kafka() -> None:
    async def again(call: Call) -> web.StreamResponse:
        return answer(event(f"re-{call.event.id[-20:]}{len(subscriber.calls)}"))

    async with Subscriber(again) as subscriber:
        t = trigger("t", subscriber.url)
        async with BrokerStage([t], broker_class="Kafka") as stage:
            await stage.post(event("1", knativebrokerttl=3))
            await stage.until("replied", 10)


async def test_b5_mt_tries_an_answer_that_is_no_event_again() -> None:
    delivery = Delivery(retry=2)
    async with (
        Subscriber(TEXT) as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url)], delivery, broker_class="MTChannelBasedBroker"
        ) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dropped")
        assert len(subscriber.calls) == 3  # each a whole generation


async def test_b7_nats_says_when_a_second_replica_would_deliver_again() -> None:
    held = Gate()
    async with (
        Subscriber(held) as subscriber,
        BrokerStage([trigger("t", subscriber.url)], broker_class="NatsJetStreamBroker") as stage,
    ):
        await stage.post(event("1"))
        await busy(stage, subscriber, 1)
        await stage.virtual.advance(29)
        assert stage.virtual.sleeping[0] == 1
        await stage.virtual.advance(1)
        _, told = await stage.until("delivering", 2)
        assert told.detail is not None and told.detail.startswith("not acknowledged for 30 s")
        held.open.set()
        await stage.until("delivered")
        assert subscriber.ids == ["1"]


@pytest.mark.parametrize("broker_class", [None, "Kafka"])
async def test_the_status_says_which_profile_is_played(broker_class: str | None) -> None:
    async with Subscriber() as subscriber:
        t = trigger("t", subscriber.url)
        async with BrokerStage([t], broker_class=broker_class) as stage:
            [broker] = stage.plane.status()["brokers"]  # type: ignore[attr-defined]
            assert broker["profile"] == (broker_class or "strict").lower()


@pytest.mark.parametrize("broker_class", [None, "Kafka", "NatsJetStreamBroker"])
async def test_our_own_mistake_loses_nothing_whatever_is_played(
    broker_class: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> float:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("relume.eventing.delivery.courier.decide_routed", broken)
    async with (
        Subscriber() as subscriber,
        BrokerStage([trigger("t", subscriber.url)], broker_class=broker_class) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("dead-lettered")
        [dead] = await stage.buried()
        assert dead.event.attributes["deadletterreason"] == "internal"
