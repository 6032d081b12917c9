"""nats-server and the whole process are killed; every accepted event is answered once all the same.

Real nats-server, real HTTP subscriber, real time.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from relume.base.clock import SystemClock
from relume.config import Exact
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import (
    BrokerStage,
    Call,
    Subscriber,
    event,
    replies,
    reply_to,
    stored,
    trigger,
)


@asynccontextmanager
async def durable_stage(
    nats_server: NatsServer,
    asked: str,
    told: str,
    in_flight: int = 50,
    settings: EventingSettings | None = None,
) -> AsyncIterator[BrokerStage]:
    settings, clock = settings or EventingSettings(), SystemClock()
    log = await JetStreamLog.connect(nats_server.url, settings, clock)
    triggers = [
        trigger("ask", asked, filters=(Exact({"type": "ask"}),)),
        trigger("log", told, filters=(Exact({"type": "reply"}),)),
    ]
    async with BrokerStage(
        triggers, settings=settings, clock=clock, log=log, concurrency=lambda _: in_flight
    ) as stage:
        yield stage


async def kill(server: NatsServer) -> None:
    """Kill nats-server and wait until it is back."""
    restarts, pid = server.restarts, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while server.restarts == restarts or server.state != "running":
            await asyncio.sleep(0.005)


async def test_events_that_wait_survive_a_kill(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(call: Call) -> web.StreamResponse:
        await gate.wait()
        return reply_to(call.event)

    async with (
        Subscriber(slow) as asked,
        Subscriber() as told,
        NatsServer(tmp_path) as server,
        durable_stage(server, asked.url, told.url, in_flight=2) as stage,
    ):
        for number in range(20):
            assert (await stage.post(event(str(number)))).status_code == 202
        await stage.until("delivering", 2)
        await kill(server)
        gate.set()
        await stage.until("delivered", 20)
        assert sorted(asked.ids) == sorted(str(n) for n in range(20))
        assert sorted(told.ids) == sorted(f"re-{n}" for n in range(20))
        assert await stored(server) == 40


async def test_a_delivery_that_ends_while_the_server_is_dead_keeps_its_outcome(
    tmp_path: Path,
) -> None:
    answered = asyncio.Event()

    async with NatsServer(tmp_path) as server:

        async def kills(call: Call) -> web.StreamResponse:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            answered.set()
            return reply_to(call.event)

        async with (
            Subscriber(kills, replies) as asked,
            Subscriber() as told,
            durable_stage(server, asked.url, told.url) as stage,
        ):
            await stage.post(event("1"))
            await stage.until("delivered")
            # The lease that nats-server remembers runs out; nothing happens again.
            await stage.post(event("2"))
            await stage.until("delivered")
            assert (asked.ids, told.ids) == (["1", "2"], ["re-1", "re-2"])
            assert server.restarts == 1


async def test_a_stream_of_events_through_several_kills_is_answered_once_each(
    tmp_path: Path,
) -> None:
    count = 300
    async with (
        Subscriber(replies) as asked,
        Subscriber() as told,
        NatsServer(tmp_path) as server,
        durable_stage(server, asked.url, told.url) as stage,
    ):
        finished = asyncio.create_task(stage.until("delivered", count))

        async def produce() -> None:
            for number in range(count):
                # What a producer does: send again until somebody says 202.
                while (await stage.post(event(str(number)))).status_code != 202:
                    await asyncio.sleep(0.05)

        producing = asyncio.create_task(produce())
        for _ in range(4):
            async with asyncio.timeout(60):
                before = len(asked.calls)
                while len(asked.calls) < min(before + 30, count):
                    await asyncio.sleep(0.001)
            await kill(server)
        await producing
        async with asyncio.timeout(60):
            while sum(call.event.id.startswith("re-") for call in told.calls) < count:
                await asyncio.sleep(0.01)
        finished.cancel()
        assert sorted(asked.ids) == sorted(str(n) for n in range(count))
        assert sorted(told.ids) == sorted(f"re-{n}" for n in range(count))
        assert await stored(server) == 2 * count


async def test_the_next_start_goes_on_at_once_with_what_was_given_back(tmp_path: Path) -> None:
    blocked = asyncio.Event()
    # So long that a busy machine is still far from the end of a lease.
    settings = EventingSettings(lease_s=120.0)

    async def hangs(call: Call) -> web.StreamResponse:
        await blocked.wait()
        raise AssertionError

    async with Subscriber(hangs, replies) as asked, Subscriber() as told:
        async with (
            NatsServer(tmp_path) as server,
            durable_stage(server, asked.url, told.url, 1, settings) as stage,
        ):
            for number in range(3):
                await stage.post(event(str(number)))
            await stage.until("delivering")
        started = asyncio.get_running_loop().time()
        async with (
            NatsServer(tmp_path) as server,
            durable_stage(server, asked.url, told.url, settings=settings) as stage,
        ):
            await stage.until("delivered", 3)
            assert asyncio.get_running_loop().time() - started < settings.lease_s / 2
            assert sorted(told.ids) == ["re-0", "re-1", "re-2"]
            assert sorted(asked.ids) == ["0", "0", "1", "2"]
