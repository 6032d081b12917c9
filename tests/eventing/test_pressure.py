"""A subscriber that asks for peace gets it: 429 and 503 with Retry-After (B4)."""

import pytest
from aiohttp import web

from relume.config import Delivery

from .stage import BrokerStage, Call, Subscriber, answer, event, trigger

DELIVERY = Delivery(retry=3, backoff_delay_s=0.1, retry_after_max_s=30.0)


def overloaded(status: int, retry_after: str) -> web.Response:
    return web.Response(status=status, headers={"Retry-After": retry_after})


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["20", "Thu, 01 Jan 2026 00:00:20 GMT"])
async def test_nothing_else_is_delivered_until_then(status: int, value: str) -> None:
    async with Subscriber(overloaded(status, value), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=DELIVERY)
        async with BrokerStage([t]) as stage:
            await stage.post(event("0"))
            await stage.until("retrying")
            for number in range(1, 5):
                await stage.post(event(str(number)))
            await stage.virtual.advance(19.9)
            assert subscriber.ids == ["0"]
            await stage.virtual.advance(0.2)
            await stage.until("delivered", 5)
            assert len(subscriber.calls) == 6


async def test_what_is_under_way_goes_on() -> None:
    async def overloaded_by_the_first(call: Call) -> web.StreamResponse:
        return overloaded(429, "20") if call.event.id == "0" else answer()

    async with Subscriber(overloaded_by_the_first) as subscriber:
        t = trigger("t", subscriber.url, delivery=DELIVERY)
        async with BrokerStage([t], concurrency=lambda _: 2) as stage:
            await stage.post(event("0"))
            await stage.post(event("1"))
            [record] = await stage.until("delivered")
            assert record.event.id == "1"


@pytest.mark.parametrize("value", ["86400000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_an_absurd_wish_is_bounded_by_the_delivery(value: str) -> None:
    async with Subscriber(overloaded(429, value), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=DELIVERY)
        async with BrokerStage([t]) as stage:
            await stage.post(event("0"))
            [record] = await stage.until("retrying")
            assert record.detail == "status 429, again in 30 s"
            await stage.virtual.advance(30)
            await stage.until("delivered")


async def test_a_delivery_without_a_maximum_waits_for_half_a_minute_at_most() -> None:
    delivery = Delivery(retry=1, backoff_delay_s=0.2)
    async with Subscriber(overloaded(429, "3600"), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=delivery)
        async with BrokerStage([t]) as stage:
            await stage.post(event("0"))
            [record] = await stage.until("retrying")
            assert record.detail == "status 429, again in 0.2 s"
            await stage.post(event("1"))
            await stage.virtual.advance(29.9)
            assert subscriber.ids == ["0"]
            await stage.virtual.advance(3.1)  # the next heartbeat
            await stage.until("delivered", 2)


async def test_a_delivery_that_does_not_heed_it_goes_on() -> None:
    delivery = Delivery(retry=0, retry_after_max_s=0.0)
    async with Subscriber(overloaded(429, "20"), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=delivery)
        async with BrokerStage([t]) as stage:
            await stage.post(event("0"))
            await stage.until("dead-lettered")
            await stage.post(event("1"))
            await stage.until("delivered")  # the virtual clock stands


async def test_a_pause_ends_also_when_nobody_tries_again() -> None:
    delivery = Delivery(retry=0, retry_after_max_s=30.0)
    async with Subscriber(overloaded(503, "5"), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=delivery)
        async with BrokerStage([t]) as stage:
            await stage.post(event("0"))
            await stage.until("dead-lettered")
            await stage.post(event("1"))
            await stage.virtual.advance(4.9)
            assert subscriber.ids == ["0"]
            await stage.virtual.advance(1.2)  # the next heartbeat
            await stage.until("delivered")


async def test_other_triggers_are_not_held_up() -> None:
    async with (
        Subscriber(overloaded(429, "20")) as busy,
        Subscriber() as free,
        BrokerStage(
            [trigger("busy", busy.url, delivery=DELIVERY), trigger("free", free.url)]
        ) as stage,
    ):
        await stage.post(event("0"))
        await stage.until("retrying")
        await stage.post(event("1"))
        await stage.until("delivered", 2)
        assert sorted(free.ids) == ["0", "1"]
