"""nats-server and the whole process are killed; every accepted event is answered once all the same.

Real nats-server, real HTTP subscriber, real time.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nats
import pytest
from aiohttp import web

from relume.config import Exact
from relume.eventing.clock import SystemClock
from relume.eventing.event import CloudEvent
from relume.eventing.jetstream import JetStreamLog
from relume.eventing.nats_server import NatsServer
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import Call, Stage, Subscriber, answer, event, trigger

STREAM = "broker_default_b"


@asynccontextmanager
async def durable_stage(
    nats_server: NatsServer, asked: str, told: str, in_flight: int = 50
) -> AsyncIterator[Stage]:
    settings, clock = EventingSettings(), SystemClock()
    log = await JetStreamLog.connect(nats_server.url, settings, clock)
    triggers = [
        trigger("ask", asked, filters=(Exact({"type": "ask"}),)),
        trigger("log", told, filters=(Exact({"type": "reply"}),)),
    ]
    async with Stage(
        triggers, settings=settings, clock=clock, log=log, concurrency=lambda _: in_flight
    ) as stage:
        yield stage


def reply_to(request: CloudEvent) -> web.Response:
    return answer(
        CloudEvent.create({"id": f"re-{request.id}", "source": "/subscriber", "type": "reply"})
    )


async def replies(call: Call) -> web.StreamResponse:
    return reply_to(call.event)


async def kill(server: NatsServer) -> None:
    """Kill nats-server and wait until it is back."""
    restarts, pid = server.restarts, server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while server.restarts == restarts or server.state != "running":
            await asyncio.sleep(0.005)


async def stored(server: NatsServer) -> int:
    """How many events the Broker ever took, replies included."""
    client = await nats.connect(server.url)
    try:
        return (await client.jetstream().stream_info(STREAM)).state.last_seq
    finally:
        await client.close()


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
            async with asyncio.timeout(20):
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

    async def hangs(call: Call) -> web.StreamResponse:
        await blocked.wait()
        raise AssertionError

    async with Subscriber(hangs, replies) as asked, Subscriber() as told:
        async with (
            NatsServer(tmp_path) as server,
            durable_stage(server, asked.url, told.url, in_flight=1) as stage,
        ):
            for number in range(3):
                await stage.post(event(str(number)))
            await stage.until("delivering")
        started = asyncio.get_running_loop().time()
        async with (
            NatsServer(tmp_path) as server,
            durable_stage(server, asked.url, told.url) as stage,
        ):
            await stage.until("delivered", 3)
            assert asyncio.get_running_loop().time() - started < EventingSettings().lease_s / 2
            assert sorted(told.ids) == ["re-0", "re-1", "re-2"]
            assert sorted(asked.ids) == ["0", "0", "1", "2"]


PROGRAM = """
import asyncio, sys
from pathlib import Path
import uvicorn
from relume.config import Broker, Destination, Exact, Plan, Trigger
from relume.eventing.nats_server import NatsServer
from relume.eventing.plane import EventingPlane

async def main(state, port, asked, told):
    trigger = lambda name, url, type_: Trigger(
        "default", name, "b", Destination(uri=url), filters=(Exact({"type": type_}),))
    plan = Plan(brokers=(Broker("default", "b"),),
                triggers=(trigger("ask", asked, "ask"), trigger("log", told, "reply")))
    async with NatsServer(Path(state)) as nats:
        plane = EventingPlane(plan, nats, lambda d, _: d.uri or "http://broker")
        await plane.start()
        config = uvicorn.Config(plane.app, port=int(port), log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()
        await plane.stop(5)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def process(state: Path, port: int, asked: str, told: str) -> AsyncIterator[int]:
    """A plane in a process of its own, up to its kill."""
    running = subprocess.Popen([sys.executable, "-c", PROGRAM, str(state), str(port), asked, told])
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(30):
            while True:
                try:
                    await client.options(f"http://127.0.0.1:{port}/default/b")
                    break
                except httpx.TransportError:
                    assert running.poll() is None
                    await asyncio.sleep(0.05)
        yield running.pid
    finally:
        running.kill()
        running.wait()


async def post(client: httpx.AsyncClient, number: int) -> bool:
    headers = {"ce-specversion": "1.0", "ce-id": str(number), "ce-source": "/s", "ce-type": "ask"}
    try:
        return (await client.post("/default/b", headers=headers)).status_code == 202
    except httpx.TransportError:
        return False


@pytest.mark.timeout(180)
async def test_killing_the_whole_process_loses_nothing_and_stores_every_answer_once(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    accepted: set[int] = set()
    async with Subscriber(replies) as asked, Subscriber() as told:
        for round_ in range(3):
            async with (
                process(tmp_path, unused_tcp_port, asked.url, told.url) as pid,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}") as client,
            ):
                for number in range(round_ * 40, round_ * 40 + 40):
                    if await post(client, number):
                        accepted.add(number)
                os.kill(pid, signal.SIGKILL)
        assert len(accepted) == 120
        async with process(tmp_path, unused_tcp_port, asked.url, told.url), asyncio.timeout(60):
            while {f"re-{number}" for number in accepted} - set(told.ids):
                await asyncio.sleep(0.05)
        async with NatsServer(tmp_path) as server:
            assert await stored(server) == 2 * len(accepted)
