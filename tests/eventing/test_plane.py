"""The plane when a part of it fails through a mistake of our own."""

import asyncio

import pytest

from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.testing import MemoryLog

from .stage import BrokerStage, Subscriber, event, trigger


async def test_a_plane_that_cannot_deliver_accepts_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(self: Dispatcher) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Dispatcher, "run", broken)
    async with BrokerStage([trigger("t", "http://127.0.0.1:1/")]) as stage:
        with pytest.raises(ExceptionGroup) as failed:
            await stage.plane.wait()
        assert failed.group_contains(ZeroDivisionError)
        response = await stage.post(event("1"))
        assert (response.status_code, response.json()["reason"]) == (503, "stopping")


async def test_a_sweep_that_fails_ends_no_delivery(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: MemoryLog) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryLog, "sweep", broken)
    async with Subscriber() as subscriber, BrokerStage([trigger("t", subscriber.url)]) as stage:
        await stage.virtual.advance(stage.settings.sweep_s * 2)
        await stage.post(event("1"))
        await stage.until("delivered")
    assert caplog.text.count("stay on the disk for now") == 2


async def test_waiting_for_a_plane_ends_when_it_stops() -> None:
    async with BrokerStage([]) as stage:
        waiting = asyncio.create_task(stage.plane.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting
