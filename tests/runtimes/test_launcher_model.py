"""The launcher and the template with the real vLLM and the demo model.

Slow (each load takes seconds), so one predictor answers several questions.
"""

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from predictors import NAME, Predictor, predictor

from relume.plane.addresses import socket_folder
from relume.runtimes.model_templates import ModelTemplates
from relume.runtimes.spawn import FreshLauncher, Process, Template, TemplateLauncher

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


async def test_a_fresh_predictor_answers_503_at_once_then_serves_and_drains(tmp_path: Path) -> None:
    """Checklist A10."""
    async with predictor(FreshLauncher(), tmp_path / "log", env={"RELUME_GRACE_S": "60"}) as it:
        first = await _first_answer(it.client)
        assert first.status_code == 503
        assert first.headers["retry-after"] == "1"
        assert first.json()["reason"] == "loading"
        assert first.json()["error"]["code"] == 503
        assert (await it.client.get("/startup")).json()["state"] == "loading"

        await it.until_ready()
        answer = await it.chat("What is the capital of France?", max_tokens=16)
        assert "Paris" in answer.json()["choices"][0]["message"]["content"]

        startup = (await it.client.get("/startup")).json()
        assert startup["state"] == "ready"
        assert set(startup["phases_ms"]) == {
            *("fork", "import", "config", "weights", "engine", "warmup", "first_token")
        }
        assert startup["phases_ms"]["import"] > startup["phases_ms"]["config"]

        # SIGTERM while one request runs: it is finished, the next is refused, the exit is clean.
        more = {"max_tokens": 60, "ignore_eos": True, "stream_options": {"include_usage": True}}
        running = _stream(it.client, **more)
        lines = [await anext(running)]
        it.process.terminate()
        refused = await _until_draining(it)
        assert refused.status_code == 503
        assert refused.json()["reason"] == "draining"
        lines += [line async for line in running]
        assert lines[-1] == "data: [DONE]"
        assert json.loads(lines[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 60
        assert await it.process.wait() == 0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of the processes that a test starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


async def test_every_protocol_of_the_runtime_reaches_the_same_model(
    tmp_path: Path, temporary: Path
) -> None:
    with socket_folder() as sockets:
        await _reach_the_model_by_every_protocol(tmp_path)
        assert list(sockets.glob("vllm_dist_*")), "an engine that was killed removes no file"
    assert list(temporary.glob("vllm_dist_*")) == []


async def _reach_the_model_by_every_protocol(tmp_path: Path) -> None:
    async with _template(tmp_path) as template:
        launcher = TemplateLauncher(template)
        async with predictor(launcher, tmp_path / "log") as it:
            await it.until_ready()
            assert it.process.started == "template"
            question = "What is the capital of France?"
            limits = {"max_tokens": 16, "temperature": 0}

            v1 = await it.client.post(
                f"/v1/models/{NAME}:predict", json={"instances": [question], "parameters": limits}
            )
            assert "Paris" in v1.json()["predictions"][0]

            offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c"}
            coded = {"content-encoding": "gzip", "content-type": "application/json"}
            body = {"messages": [{"role": "user", "content": question}], **limits}
            openai = await it.client.post(
                "/v1/chat/completions",
                headers={**offer, **coded, "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA"},
                content=gzip.compress(json.dumps(body).encode()),
            )
            assert "Paris" in openai.json()["choices"][0]["message"]["content"]

            tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [question]}
            v2 = await it.client.post(
                f"/v2/models/{NAME}/infer", json={"inputs": [tensor], "parameters": limits}
            )
            assert "Paris" in v2.json()["outputs"][0]["data"][0]

            event = {
                "ce-specversion": "1.0",
                "ce-id": "1",
                "ce-source": "/test",
                "ce-type": "com.example.question",
                "content-type": "text/plain",
                "prefer": "reply",
            }
            reply = await it.client.post("/", headers=event, content=question)
            assert reply.status_code == 200
            assert reply.headers["ce-type"] == "relume.inference.response"
            assert reply.headers["ce-causationid"] == "1"
            assert int(reply.headers["ce-completiontokens"]) > 0

            too_long = {"messages": [{"role": "user", "content": "word " * 4000}]}
            json_event = {**event, "content-type": "application/json"}
            error = await it.client.post("/", headers=json_event, json=too_long)
            assert error.headers["ce-type"] == "relume.inference.error"
            assert error.json()["reason"] == "context-too-long"
            assert error.json()["retryable"] is False

            lines = [line async for line in _stream(it.client)]
            assert lines[-1] == "data: [DONE]"
            assert len(lines) > 5

        # kill -9 takes the engine along, and the template forks the next one. Forks of one template
        # share nothing: one that drains leaves its sibling alone.
        async with (
            predictor(launcher, tmp_path / "second") as it,
            predictor(launcher, tmp_path / "third") as sibling,
        ):
            await it.until_ready()
            await sibling.until_ready()
            family = [it.process.pid, *(p.pid for p in psutil.Process(it.process.pid).children())]
            os.kill(it.process.pid, signal.SIGKILL)
            assert await it.process.wait() == -signal.SIGKILL
            await _until_gone(family)

            async with predictor(launcher, tmp_path / "fourth") as drained:
                assert (await _first_answer(drained.client)).status_code == 503
                drained.process.terminate()
                assert await drained.process.wait() == 128 + signal.SIGTERM
            sibling_state = (await sibling.client.get("/startup")).json()["state"]
            assert sibling_state == "ready"
            assert (await sibling.chat("Hello", max_tokens=2)).status_code == 200

            # kill -9 of the engine alone: its stream ends with an error, and the server ends too.
            running = _stream(sibling.client, max_tokens=400, ignore_eos=True)
            await anext(running)
            (core,) = psutil.Process(sibling.process.pid).children()
            core.kill()
            told = [line async for line in running]
            assert any('"error"' in line for line in told)
            try:
                next_one = await sibling.chat("Hello", max_tokens=2)
            except httpx.TransportError:
                pass  # the server has ended already
            else:
                assert next_one.status_code == 503
                assert next_one.headers["relume-not-begun"] == "engine-failed"
            assert await sibling.process.wait() == 0


async def test_a_loaded_engine_is_forked_and_answers_as_one_that_was_loaded_anew(
    tmp_path: Path, temporary: Path
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(socket_folder())
        template = await stack.enter_async_context(_template(tmp_path))
        assert await template.ready()
        engines = ModelTemplates(template, TemplateLauncher(template), tmp_path, tmp_path)
        launcher = Engine(await stack.enter_async_context(engines))
        async with predictor(launcher, tmp_path / "first") as it:
            await it.until_ready()
            assert it.process.started == "template"
            expected = await _greedy(it)
        async with asyncio.timeout(60):
            while [engine["state"] for engine in engines.status()] != ["ready"]:
                await asyncio.sleep(0.05)

        async with (
            predictor(launcher, tmp_path / "second") as one,
            predictor(launcher, tmp_path / "third") as other,
        ):
            await asyncio.gather(one.until_ready(), other.until_ready())
            assert {one.process.started, other.process.started} == {"engine"}
            assert await asyncio.gather(_greedy(one), _greedy(other)) == [expected, expected]
            startup = (await one.client.get("/startup")).json()
            assert "first_token" in startup["phases_ms"]
            assert startup["steps"] > 0, "vLLM has told of the steps of its engine"
            assert startup["running"] == 0
            assert (await one.client.get("/metrics")).status_code == 200

            # kill -9 of one takes its engine along and leaves its sibling alone; of the model
            # template, it takes all that it forked, and the next start needs none.
            family = [one.process.pid, *(p.pid for p in psutil.Process(one.process.pid).children())]
            os.kill(one.process.pid, signal.SIGKILL)
            assert await one.process.wait() == -signal.SIGKILL
            await _until_gone(family)
            assert await _greedy(other) == expected
            (held,) = engines.held()
            assert held.in_use
            family = [p.pid for p in psutil.Process(held.pid).children(recursive=True)]
            os.kill(held.pid, signal.SIGKILL)
            assert await other.process.wait() == -signal.SIGKILL
            await _until_gone(family)
        async with predictor(launcher, tmp_path / "fourth") as it:
            assert it.process.started == "template"
    assert list(temporary.glob("vllm_dist_*")) == []
    assert "other threads" not in (tmp_path / "of.it.template.log").read_text()


class Engine:
    """Starts predictors of one service from its loaded engine."""

    def __init__(self, engines: ModelTemplates) -> None:
        self._engines = engines

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Process:
        return await self._engines.start("of/it", argv=argv, env=env, log_path=log_path)


async def _greedy(it: Predictor) -> tuple[str, object]:
    answer = await it.chat("What is the capital of France?", max_tokens=12, logprobs=True)
    (choice,) = answer.json()["choices"]
    return choice["message"]["content"], choice["logprobs"]


async def test_nothing_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from predictors import predictor
from relume.runtimes.spawn import Template, TemplateLauncher

async def main():
    folder = Path({str(tmp_path)!r})
    async with Template(folder / "t.sock", folder / "template.log") as template:
        async with predictor(TemplateLauncher(template), folder / "log") as it:
            await it.until_ready()
            print("ready", flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"ready\n"
    family = [p.pid for p in psutil.Process(owner.pid).children(recursive=True)]
    assert len(family) >= 3  # template, API server, engine core
    owner.kill()
    await owner.wait()
    await _until_gone(family)


async def test_a_wrong_flag_ends_with_vllms_own_message(tmp_path: Path) -> None:
    process = await FreshLauncher().start(
        argv=["--model", str(tmp_path), "--no-such-flag", "--port", "0"],
        env={},
        log_path=tmp_path / "log",
    )
    assert await process.wait() == 2
    assert "--no-such-flag" in (tmp_path / "log").read_text()


def _template(folder: Path) -> Template:
    return Template(folder / "template.sock", folder / "template.log")


async def _first_answer(client: httpx.AsyncClient) -> httpx.Response:
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.get("/v1/models")
            except httpx.ConnectError:
                await asyncio.sleep(0.01)


async def _until_draining(it: object) -> httpx.Response:
    async with asyncio.timeout(60):
        while True:
            answer = await it.client.get("/v1/models")  # type: ignore[attr-defined]
            if answer.status_code != 200:
                return answer  # type: ignore[no-any-return]
            await asyncio.sleep(0.02)


async def _stream(client: httpx.AsyncClient, **more: object) -> AsyncIterator[str]:
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 8}
    body |= more
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line:
                yield line


async def _until_gone(pids: list[int]) -> None:
    async with asyncio.timeout(60):
        while any(_runs(pid) for pid in pids):
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
