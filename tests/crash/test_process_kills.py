"""The whole process is killed, again and again, and every accepted event is answered all the same.

The plane runs in a process of its own; the subscribers live here.
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
import pytest

from relume.eventing.jetstream.server import NatsServer
from tests.eventing.stage import Subscriber, replies, stored
from tests.ports import own_port

PROGRAM = """
import asyncio, sys
from pathlib import Path
import uvicorn
from relume.config import Broker, Destination, Exact, Plan, Trigger
from relume.eventing.jetstream.server import NatsServer
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
        async with httpx.AsyncClient() as client, asyncio.timeout(60):
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
    tmp_path: Path,
) -> None:
    accepted: set[int] = set()
    port = own_port()
    async with Subscriber(replies) as asked, Subscriber() as told:
        for round_ in range(3):
            async with (
                process(tmp_path, port, asked.url, told.url) as pid,
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
            ):
                for number in range(round_ * 40, round_ * 40 + 40):
                    if await post(client, number):
                        accepted.add(number)
                os.kill(pid, signal.SIGKILL)
        assert len(accepted) == 120
        async with process(tmp_path, port, asked.url, told.url), asyncio.timeout(60):
            while {f"re-{number}" for number in accepted} - set(told.ids):
                await asyncio.sleep(0.05)
        async with NatsServer(tmp_path) as server:
            assert await stored(server) == 2 * len(accepted)
