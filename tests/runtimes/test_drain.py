"""SIGTERM to a process that serves: what was accepted is answered, and then it stops."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from event_client import EVENT, chat_data

from relume.runtimes.drain import InFlight

SCRIPT = Path(__file__).with_name("drainable.py")
CHAT = "/v1/chat/completions"


class Server:
    """A process that serves the stub, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, http: httpx.AsyncClient) -> None:
        self.process = process
        self.http = http

    async def says(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    def release(self) -> None:
        """Let the answers go that wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"release\n")

    async def until_draining(self) -> None:
        """`/startup` is served while the process drains, and tells it."""
        while (await self.http.get("/startup")).json()["state"] != "draining":
            pass


@asynccontextmanager
async def serving(grace_s: str | None = None) -> AsyncIterator[Server]:
    """Start the server; it is gone when the block ends."""
    environment = {**os.environ, **({"RELUME_GRACE_S": grace_s} if grace_s else {})}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT)), stdin=pipe, stdout=pipe, env=environment
    )
    assert process.stdout is not None
    port = (await process.stdout.readline()).decode().strip()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        try:
            yield Server(process, http)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
async def test_an_idle_process_stops_at_once(name: str) -> None:
    async with serving() as server:
        server.process.send_signal(getattr(signal, name))
        assert await server.says() == "stopping"
        assert await server.process.wait() == 0


@pytest.mark.parametrize("event", [True, False])
async def test_what_runs_is_answered_before_the_process_stops(event: bool) -> None:
    headers = {f"ce-{name}": value for name, value in EVENT.items()} if event else {}
    async with serving() as server, asyncio.TaskGroup() as group:
        post = server.http.post(CHAT, json=chat_data("wait"), headers=headers)
        answer = group.create_task(post)
        await accepted(server)
        server.process.terminate()
        await server.until_draining()
        refused = await server.http.post(CHAT, json=chat_data("new"))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await server.http.get("/health")).status_code == 503
        server.process.terminate()  # again: changes nothing
        await server.until_draining()
        assert not answer.done()
        server.release()
        assert (await answer).status_code == 200
        assert await server.says() == "stopping"
        assert await server.process.wait() == 0


async def accepted(server: Server) -> None:
    """The request before this one has reached its route."""
    while (await server.http.get("/running")).status_code != 200:
        pass


async def test_a_drain_ends_five_seconds_before_the_grace_period_does() -> None:
    """Checklist A11."""
    async with serving("5.2") as server, asyncio.TaskGroup() as group:
        group.create_task(lost(server))
        await accepted(server)
        started = time.monotonic()
        server.process.terminate()
        assert await server.says() == "stopping"
        assert 0.2 <= time.monotonic() - started < 5
        assert await server.process.wait() == 0


async def lost(server: Server) -> None:
    """A request that outlasts the grace period: cut off, or told that it failed."""
    with suppress(httpx.TransportError):
        assert (await server.http.post(CHAT, json=chat_data("wait"))).status_code >= 500


async def test_a_grace_period_shorter_than_the_exit_leaves_no_time_to_drain() -> None:
    async with serving("3") as server, asyncio.TaskGroup() as group:
        group.create_task(lost(server))
        await accepted(server)
        server.process.terminate()
        assert await server.says() == "stopping"


async def test_a_grace_period_that_is_no_number_fails_the_start_not_the_drain() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT)),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RELUME_GRACE_S": "soon"},
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"soon" in stderr


async def test_other_signals_do_what_they_are_told_to() -> None:
    async with serving() as server:
        server.process.send_signal(signal.SIGUSR1)
        server.process.terminate()
        assert [await server.says(), await server.says()] == ["signalled", "stopping"]


def test_requests_in_flight_are_counted_even_if_they_fail() -> None:
    in_flight = InFlight()
    with in_flight:
        with pytest.raises(RuntimeError), in_flight:
            assert in_flight.requests == 2
            raise RuntimeError
        assert in_flight.requests == 1
    assert in_flight.requests == 0
