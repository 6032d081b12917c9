"""The plane with real predictor processes, behind a real server, over real HTTP."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets

from relume.config import InferenceService
from relume.serving.plane import ServingPlane
from relume.serving.settings import ServingSettings

from .conftest import Autoscaling, service
from .processes import ProcessLauncher
from .virtual import eventually

BASE = "/serving/default/summarize"


@dataclass
class Machine:
    """A plane on a port, and a client."""

    plane: ServingPlane
    launcher: ProcessLauncher
    client: httpx.AsyncClient
    port: int
    folder: Path

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.status()["services"][0]
        return found


async def logged(m: Machine, what: str, path: str) -> None:
    """Wait until the predictor has noted this, and nothing else."""
    async with asyncio.timeout(60):
        while (found := (await m.client.get(f"{BASE}/log")).json()[what]) != [path]:
            assert found == []
            await asyncio.sleep(0.02)


Machines = Callable[..., Any]


@pytest.fixture
def machine(tmp_path: Path) -> Machines:
    @asynccontextmanager
    async def run(*services: InferenceService, **settings: Any) -> AsyncIterator[Machine]:
        launcher = ProcessLauncher()
        plane = ServingPlane(
            services or (service(),),
            launcher,
            log_dir=tmp_path / "logs",
            settings=ServingSettings(**settings),
        )
        await plane.start()
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(plane.app, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await eventually(lambda: server.started)
        try:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                yield Machine(plane, launcher, client, port, tmp_path)
        finally:
            await plane.stop(0)
            server.should_exit = True
            await serving
        assert launcher.alive == [], "a predictor outlived the plane"

    return run


async def test_twenty_requests_at_zero_get_twenty_answers_and_one_cold_start(
    machine: Machines,
) -> None:
    async with machine(service(env={"FAKE_LOAD_S": "0.3"})) as m:
        answers = await asyncio.gather(*[m.client.post(f"{BASE}/v1/x") for _ in range(20)])
        assert [a.status_code for a in answers] == [200] * 20
        assert {a.json()["pid"] for a in answers} == {m.launcher.started[0].pid}
        assert m.status()["cold_starts"] == 1


async def test_the_ledger_has_every_phase_of_the_cold_start(machine: Machines) -> None:
    async with machine(service(env={"FAKE_LOAD_S": "0.3"})) as m:
        await m.client.post(f"{BASE}/v1/x", headers={"ce-id": "event-1"})
        file = m.folder / "coldstarts.jsonl"
        await eventually(file.exists)
        (line,) = file.read_text().splitlines()
        entry = json.loads(line)
        assert [entry] == m.plane.coldstarts()
        assert m.status()["last_cold_start"] == entry
        assert entry["triggered_by"] == "event-1"
        assert (entry["outcome"], entry["started"]) == ("ready", "fresh")
        assert (entry["fork"], entry["import"], entry["weights"]) == (1, 2, 300)
        assert entry["first_token"] == 1.5
        assert entry["ready"] + 1.5 + entry["answer"] == pytest.approx(entry["total"], abs=50)
        assert entry["engine"] is None
        assert entry["total"] >= entry["ready"] >= 300
        assert entry["queue"] < 100


async def test_it_goes_to_zero_and_comes_back(machine: Machines) -> None:
    scaling = Autoscaling(window_s=1)
    quick = {"tick_s": 0.1, "report_s": 0.1}
    async with machine(service(autoscaling=scaling), **quick) as m:
        first = await m.client.get(f"{BASE}/v1/x")
        await eventually(lambda: m.status()["state"] == "zero")
        assert m.launcher.alive == []
        second = await m.client.get(f"{BASE}/v1/x")
        assert first.json()["pid"] != second.json()["pid"]


async def test_a13_server_sent_events_arrive_as_they_are_sent(machine: Machines) -> None:
    async with machine() as m:
        await m.client.post(f"{BASE}/go_on")
        async with m.client.stream("POST", f"{BASE}/steps?n=5") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            seen = []
            async for line in response.aiter_lines():
                if line:
                    seen.append(line)
                    # The next event is sent only now: if this one were kept back, none would come.
                    await m.client.post(f"{BASE}/go_on")
        assert seen == [f"data: {number}" for number in range(5)]


async def test_a13_a_websocket_passes_both_ways(machine: Machines) -> None:
    async with machine() as m:
        url = f"ws://127.0.0.1:{m.port}{BASE}/ws"
        async with websockets.connect(url, subprotocols=["realtime"]) as socket:  # type: ignore[list-item]
            await socket.send("hello")
            pid = m.launcher.started[0].pid
            assert await socket.recv() == f"{pid} hello"
            assert socket.subprotocol == "realtime"
            await eventually(lambda: m.status()["in_flight"] == 1)
            await socket.send("close")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4001
        await eventually(lambda: m.status()["in_flight"] == 0)


async def test_a_websocket_finds_its_model_in_the_query(machine: Machines) -> None:
    async with machine() as m:
        url = f"ws://127.0.0.1:{m.port}/openai/v1/realtime?model=summarize"
        async with websockets.connect(url) as socket:
            await socket.send("hello")
            assert str(await socket.recv()).endswith("hello")
        await logged(m, "cancelled", "websocket")


@pytest.mark.parametrize(("path", "status"), [("/nosuch", 404), (f"{BASE}/v1/no-socket", 502)])
async def test_a_websocket_that_cannot_be_connected_is_refused(
    machine: Machines, path: str, status: int
) -> None:
    async with machine() as m:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(f"ws://127.0.0.1:{m.port}{path}")
        assert refused.value.response.status_code == status


async def test_a_client_that_hangs_up_cancels_the_inference_in_the_predictor(
    machine: Machines,
) -> None:
    async with machine() as m:
        await m.client.get(f"{BASE}/v1/x")
        leaver = asyncio.create_task(m.client.get(f"{BASE}/slow?s=600"))
        await logged(m, "begun", "/slow")
        leaver.cancel()
        await logged(m, "cancelled", "/slow")


async def test_a_killed_predictor_is_noticed_and_the_next_request_starts_another(
    machine: Machines,
) -> None:
    async with machine() as m:
        await m.client.get(f"{BASE}/v1/x")
        pid = m.launcher.started[0].pid
        waiting = asyncio.create_task(m.client.get(f"{BASE}/slow?s=60"))
        await eventually(lambda: m.status()["in_flight"] == 1)
        os.kill(pid, signal.SIGKILL)
        answer = await waiting
        assert answer.status_code == 502
        await eventually(lambda: m.status()["state"] == "failed")
        assert "SIGKILL" in m.status()["reason"]
        again = await m.client.get(f"{BASE}/v1/x")
        assert again.status_code == 200
        assert again.json()["pid"] != pid


async def test_a_stream_of_a_killed_predictor_breaks_off_visibly(machine: Machines) -> None:
    async with machine() as m:
        await m.client.get(f"{BASE}/v1/x")
        with pytest.raises(httpx.RemoteProtocolError):
            async with m.client.stream("GET", f"{BASE}/stream?n=100&gap=0.05") as response:
                async for _ in response.aiter_raw():
                    if m.launcher.alive:
                        os.kill(m.launcher.started[0].pid, signal.SIGKILL)


async def test_a_crash_while_loading_is_503_with_the_reason_and_the_end_of_the_log(
    machine: Machines,
) -> None:
    crash = {"FAKE_CRASH": "loading", "FAKE_LOAD_S": "0.1"}
    async with machine(service(env=crash)) as m:
        answers = await asyncio.gather(*[m.client.post(f"{BASE}/v1/x") for _ in range(5)])
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["reason"] == "predictor-failed"
            message = answer.json()["error"]["message"]
            assert "exited with code 3" in message
            assert message.endswith("Out of memory: this model needs more than there is")
        assert m.status()["state"] == "failed"
        assert m.status()["log_tail"][0] == "loading weights"
        assert len(m.launcher.started) == 1


async def test_the_request_after_a_crash_while_loading_tries_again(
    machine: Machines, tmp_path: Path
) -> None:
    crash = {"FAKE_CRASH": "1:loading", "FAKE_COUNTER": str(tmp_path / "starts")}
    async with machine(service(env=crash)) as m:
        assert (await m.client.post(f"{BASE}/v1/x")).status_code == 503
        assert (await m.client.post(f"{BASE}/v1/x")).status_code == 200
        assert m.status()["log_tail"] == []


async def test_two_replicas_share_the_requests(machine: Machines, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    config = service(container_concurrency=1, max_replicas=2, env={"FAKE_GATE": str(gate)})
    async with machine(config, tick_s=0.2, report_s=0.2) as m:
        asked = [asyncio.create_task(m.client.get(f"{BASE}/gated")) for _ in range(8)]
        await eventually(lambda: m.status()["in_flight"] == 2)
        gate.touch()
        answers = await asyncio.gather(*asked)
        assert {a.status_code for a in answers} == {200}
        assert len({a.json()["pid"] for a in answers}) == 2


async def test_stopping_while_it_loads_leaves_nothing(machine: Machines) -> None:
    async with machine(service(env={"FAKE_LOAD_S": "60"})) as m:
        held = asyncio.create_task(m.client.post(f"{BASE}/v1/x"))
        await eventually(lambda: bool(m.launcher.alive))
        await m.plane.stop(30)
        assert m.launcher.alive == []
        assert (await held).status_code == 503


async def test_bodies_of_every_size_go_both_ways(machine: Machines) -> None:
    async with machine() as m:
        for size in (0, 1, 70_000, 9_000_000):

            async def pieces(left: int = size) -> AsyncIterator[bytes]:
                while left > 0:
                    yield b"x" * min(left, 60_000)
                    left -= 60_000

            answer = await m.client.post(f"{BASE}/v1/x", content=pieces())
            assert len(answer.json()["body"]) == size


async def test_head_and_empty_answers_pass(machine: Machines) -> None:
    async with machine() as m:
        answer = await m.client.head(f"{BASE}/v1/x")
        assert (answer.status_code, answer.content) == (200, b"")
