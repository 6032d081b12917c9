"""A plane that is told to stop at once, on a real nats-server."""

import asyncio
from pathlib import Path

from aiohttp import web

from relume.base.clock import SystemClock
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings

from .stage import BrokerStage, Call, Subscriber, answer, event, trigger


async def test_what_was_under_way_when_there_was_no_time_comes_to_the_next_process_soon(
    tmp_path: Path,
) -> None:
    reached, settings, clock = asyncio.Event(), EventingSettings(lease_s=600.0), SystemClock()

    async def hangs(call: Call) -> web.StreamResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Subscriber(hangs, answer()) as subscriber:
        t = trigger("t", subscriber.url)
        async with NatsServer(tmp_path) as nats:
            log = await JetStreamLog.connect(nats.url, settings, clock)
            stage = BrokerStage([t], settings=settings, clock=clock, log=log)
            await stage.__aenter__()
            await stage.post(event("1"))
            await reached.wait()
            stopping = asyncio.create_task(stage.plane.stop(1000))
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
        async with NatsServer(tmp_path) as nats:
            log = await JetStreamLog.connect(nats.url, settings, clock)
            async with BrokerStage([t], settings=settings, clock=clock, log=log) as again:
                await again.until("delivered")  # long before the end of the lease
    assert subscriber.ids == ["1", "1"]
