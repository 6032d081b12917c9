"""Leases, in-flight bounds, settlement and shutdown (B8, B9), under a virtual clock."""

import asyncio

import pytest
from aiohttp import web

from relume.config import Delivery
from relume.eventing.envelope import Envelope
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLeasedEvent, MemoryLog
from tests.eventing.stage import BROKER, BrokerStage, Call, Gate, Subscriber, answer, event, trigger


async def test_no_more_deliveries_run_at_once_than_the_subscriber_can_take() -> None:
    gate = Gate()
    async with (
        Subscriber(gate) as subscriber,
        BrokerStage([trigger("t", subscriber.url)], concurrency=lambda _: 2) as stage,
    ):
        for number in range(5):
            await stage.post(event(str(number)))
        await gate.reached_by(2)
        await stage.virtual.advance(1)
        assert subscriber.running == 2
        assert (stage.status("t")["in_flight"], stage.status("t")["pending"]) == (2, 3)
        gate.open.set()
        await stage.until("delivered", 5)
        assert subscriber.most_at_once == 2
        assert sorted(subscriber.ids) == ["0", "1", "2", "3", "4"]


async def test_a_subscriber_that_grows_is_used_without_a_new_event() -> None:
    gate, size = Gate(), [1]
    async with (
        Subscriber(gate) as subscriber,
        BrokerStage([trigger("t", subscriber.url)], concurrency=lambda _: size[0]) as stage,
    ):
        for number in range(3):
            await stage.post(event(str(number)))
        await gate.reached_by(1)
        size[0] = 3
        await stage.virtual.advance(3)
        await gate.reached_by(2)
        gate.open.set()
        await stage.until("delivered", 3)


async def test_an_event_that_waits_for_its_next_attempt_takes_nobodys_place() -> None:
    delivery = Delivery(retry=1, backoff_delay_s=60.0)

    async def fails_the_first(call: Call) -> web.StreamResponse:
        return answer(status=503 if call.event.id == "first" else 200)

    async with (
        Subscriber(fails_the_first) as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url, delivery=delivery)], concurrency=lambda _: 1
        ) as stage,
    ):
        await stage.post(event("first"))
        await stage.until("retrying")
        await stage.post(event("second"))
        [record] = await stage.until("delivered")
        assert record.event.id == "second"


async def test_the_lease_covers_the_work() -> None:
    gate = Gate()
    async with Subscriber(gate) as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"))
        await gate.reached_by(1)
        await stage.virtual.advance(600)
        gate.open.set()
        await stage.until("delivered")
        await stage.virtual.advance(60)
        assert subscriber.ids == ["1"]


async def test_a_lost_settlement_is_repeated_without_another_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settled: list[int] = []
    really = MemoryLeasedEvent.settle

    async def lost_once(held: MemoryLeasedEvent) -> None:
        settled.append(held.sequence)
        if len(settled) > 1:
            await really(held)

    monkeypatch.setattr(MemoryLeasedEvent, "settle", lost_once)
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"))
        await stage.until("delivered")
        await stage.virtual.advance(11)
        assert settled == [1, 1]
        await stage.virtual.advance(60)
        assert settled == [1, 1]
        assert subscriber.ids == ["1"]


async def test_an_event_whose_lease_ran_out_is_not_delivered_twice_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lost(held: MemoryLeasedEvent) -> None:
        return None

    monkeypatch.setattr(MemoryLeasedEvent, "extend", lost)
    gate = Gate()
    async with Subscriber(gate) as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.post(event("1"))
        await gate.reached_by(1)
        await stage.virtual.advance(35)  # comes again three times
        gate.open.set()
        await stage.until("delivered")
        await stage.virtual.advance(60)
        assert subscriber.ids == ["1"]


async def test_stopping_lets_a_delivery_end_within_the_grace() -> None:
    gate = Gate()
    async with Subscriber(gate) as subscriber:
        stage = BrokerStage([trigger("t", subscriber.url)])
        await stage.__aenter__()
        await stage.post(event("1"))
        await gate.reached_by(1)
        stopping = asyncio.create_task(stage.plane.stop(10))
        await stage.virtual.advance(0)
        refused = await stage.post(event("2"))
        assert (refused.status_code, refused.json()["reason"]) == (503, "stopping")
        gate.open.set()
        await stopping
        async with BrokerStage([trigger("t", subscriber.url)], log=stage.log) as again:
            await again.post(event("3"))
            await again.until("delivered")
            assert subscriber.ids == ["1", "3"]


async def test_what_does_not_end_in_time_is_given_back_to_the_next_process() -> None:
    gate = Gate()
    async with Subscriber(gate, answer()) as subscriber:
        stage = BrokerStage([trigger("t", subscriber.url)])
        await stage.__aenter__()
        await stage.post(event("1"))
        await gate.reached_by(1)
        await stage.plane.stop(0)
        async with BrokerStage([trigger("t", subscriber.url)], log=stage.log) as again:
            # The virtual clock stands: no lease has to run out first.
            await again.until("delivered")
            assert subscriber.ids == ["1", "1"]
            assert gate.abandoned == 1


async def test_stopping_does_not_wait_for_the_next_attempt() -> None:
    delivery = Delivery(retry=3, backoff_delay_s=100.0)
    async with Subscriber(answer(status=503), answer()) as subscriber:
        t = trigger("t", subscriber.url, delivery=delivery)
        stage = BrokerStage([t])
        await stage.__aenter__()
        await stage.post(event("1"))
        await stage.until("retrying")
        async with asyncio.timeout(60):
            await stage.plane.stop(1000)
        async with BrokerStage([t], log=stage.log) as again:
            await again.until("delivered")


async def test_a_delivery_that_fails_while_stopping_is_given_back_and_not_retried() -> None:
    gate = Gate()

    async def fails(call: Call) -> web.StreamResponse:
        await gate(call)
        return answer(status=503)

    async with Subscriber(fails, answer()) as subscriber:
        stage = BrokerStage([trigger("t", subscriber.url)])
        await stage.__aenter__()
        await stage.post(event("1"))
        await gate.reached_by(1)
        stopping = asyncio.create_task(stage.plane.stop(1000))
        await stage.virtual.advance(0)
        gate.open.set()
        async with asyncio.timeout(60):
            await stopping
        assert stage.memory.buried(BROKER) == 0
        async with BrokerStage([trigger("t", subscriber.url)], log=stage.log) as again:
            await again.until("delivered")
            assert subscriber.ids == ["1", "1"]


async def test_our_own_mistake_makes_a_dead_letter_and_not_an_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*arguments: object) -> bool:
        raise ZeroDivisionError("a bug")

    async with (
        Subscriber(answer(event("2"))) as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        await stage.memory.append(BROKER, _envelope("1"), 0)
        monkeypatch.setattr(MemoryLog, "append", broken)
        await stage.until("dead-lettered")
        [dead] = await stage.buried()
        assert dead.event.attributes["deadletterreason"] == "internal"
        await stage.virtual.advance(60)
        assert len(subscriber.calls) == 1


async def test_events_are_held_up_to_a_bound_even_when_all_of_them_fail() -> None:
    delivery = Delivery(retry=1, backoff_delay_s=100.0)
    async with (
        Subscriber(answer(status=503)) as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url, delivery=delivery)], settings=EventingSettings(held=3)
        ) as stage,
    ):
        for number in range(5):
            await stage.post(event(str(number)))
        await stage.until("retrying", 3)
        await stage.virtual.advance(10)
        assert (stage.status("t")["in_flight"], stage.status("t")["pending"]) == (3, 2)


async def test_events_are_held_up_to_so_many_bytes_even_when_all_of_them_fail() -> None:
    delivery = Delivery(retry=1, backoff_delay_s=100.0)
    settings = EventingSettings(held_bytes=250_000)
    async with (
        Subscriber(answer(status=503)) as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url, delivery=delivery)],
            settings=settings,
            concurrency=lambda _: 1,
        ) as stage,
    ):
        for number in range(9):
            await stage.post(event(str(number), bytes(100_000)))
        await stage.until("retrying", 3)
        await stage.virtual.advance(10)
        assert stage.status("t")["in_flight"] in (3, 4)  # what was fetched ahead may be one more
        await stage.virtual.advance(100)
        await stage.until("dead-lettered", 3)
        await stage.until("retrying", 2)  # there is room for others


async def test_a_large_event_alone_is_delivered_whatever_the_bound_for_bytes() -> None:
    async with (
        Subscriber() as subscriber,
        BrokerStage(
            [trigger("t", subscriber.url)], settings=EventingSettings(held_bytes=10)
        ) as stage,
    ):
        for number in range(3):
            await stage.post(event(str(number), bytes(1000)))
        await stage.until("delivered", 3)
        assert sorted(subscriber.ids) == ["0", "1", "2"]


async def test_the_settled_events_that_are_remembered_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relume.eventing.delivery.dispatcher._REMEMBERED", 3)
    async with (
        Subscriber() as subscriber,
        BrokerStage([trigger("t", subscriber.url)]) as stage,
    ):
        for number in range(9):
            await stage.post(event(str(number)))
        await stage.until("delivered", 9)
        [dispatcher] = stage.plane._dispatchers
        assert len(dispatcher._settled) == 3


def _envelope(id_: str) -> Envelope:
    return Envelope(event(id_, knativebrokerttl=255))
