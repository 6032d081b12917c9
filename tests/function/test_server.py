"""One contract, two servers: what Relume leans on of func-python, and its fake."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from relume.runtimes.function.process import OUT_OF_MEMORY, FunctionProcess, start
from tests.ports import own_port

from .conftest import ALL


class Running:
    def __init__(self, process: FunctionProcess, port: int, log: Path) -> None:
        self.process, self.log = process, log
        self.url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> int:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(self.url + path)).status_code
            except httpx.TransportError:
                return 0

    async def send(self, kind: str, **headers: str) -> httpx.Response:
        event = {f"ce-{k}": v for k, v in {"id": "1", "source": "s", "specversion": "1.0"}.items()}
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.post(self.url, headers={**event, "ce-type": kind, **headers})


@pytest.fixture
async def function(python: Path, tmp_path: Path) -> AsyncIterator[Running]:
    port = own_port()
    environment = {"LISTEN_ADDRESS": f"127.0.0.1:{port}", "SCRATCH": str(tmp_path)}
    log = tmp_path / "function.log"
    process = await start(python, ALL, "cloudevent", environment, log, 150 << 20)
    running = Running(process, port, log)
    async with asyncio.timeout(90):
        while await running.get("/health/readiness") != 200:
            assert process.ended_by is None, log.read_text()
            await asyncio.sleep(0.02)
    yield running
    process.kill()
    await process.wait()


async def test_it_is_alive_and_ready_on_its_health_routes(function: Running) -> None:
    assert await function.get("/health/liveness") == 200


async def test_it_hands_an_event_to_the_function_and_returns_its_answer(function: Running) -> None:
    answer = await function.send("tell")
    assert (answer.status_code, answer.headers["ce-type"]) == (200, "told")
    assert "SCRATCH" in answer.json()


async def test_it_refuses_what_is_no_event(function: Running) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(function.url, content=b"{}")
    assert answer.status_code == 400


async def test_an_error_of_the_function_is_a_500(function: Running) -> None:
    assert (await function.send("raise")).status_code == 500


async def test_sigterm_ends_it_with_code_zero(function: Running) -> None:
    function.process.terminate()
    assert await asyncio.wait_for(function.process.wait(), 60) in (0, -15)
    assert await function.get("/health/readiness") == 0


async def test_it_sees_its_own_environment_and_not_that_of_the_plane(
    function: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = (await function.send("tell")).json()
    assert told.keys() - os.environ.keys() >= {"LISTEN_ADDRESS", "SCRATCH"}
    assert not [name for name in told if name.startswith("PYTEST")]


async def test_more_memory_than_its_limit_kills_it_with_the_reason(function: Running) -> None:
    with pytest.raises(httpx.TransportError):
        await function.send("leak")
    assert await function.process.wait() == -9
    ended_by = function.process.ended_by
    assert ended_by is not None and ended_by.startswith(OUT_OF_MEMORY)
    assert ended_by in function.log.read_text()


async def test_an_end_from_outside_is_told_by_its_signal(function: Running) -> None:
    os.kill(function.process.pid, 9)
    assert await function.process.wait() == -9
    assert function.process.ended_by == "the function was killed by SIGKILL"
