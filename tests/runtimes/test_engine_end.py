"""An engine ends under its server, which ends somewhat later: what comes meanwhile, and before."""

import asyncio
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from event_client import EVENT, Producer, chat_data
from stub_vllm import MODEL, Stub

from relume.base.vocabulary import DRAINING, ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.runtimes import internals
from relume.runtimes.phases import PROCESS, Phases

CHAT = "/v1/chat/completions"
PREDICT = f"/v1/models/{MODEL}:predict"


class Engine:
    """vLLM's client of an engine, as far as we ask it."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self._ended = ended

    @property
    def errored(self) -> bool:
        return self._ended()


@pytest.mark.parametrize("prefer", [{}, {"prefer": "reply"}])
@pytest.mark.parametrize("path", ["/", CHAT, PREDICT])
async def test_what_comes_when_the_engine_has_ended_is_not_begun(
    producer: Producer, stub: Stub, path: str, prefer: dict[str, str]
) -> None:
    stub.app.state.engine_client = Engine(lambda: True)
    event = await producer.binary(chat_data(), path, headers=prefer)
    plain = await producer.http.post(path, json=chat_data())
    for response in (event, plain):
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.headers[NOT_BEGUN_HEADER] == ENGINE_FAILED
        assert (response.json()["reason"], response.json()["retryable"]) == (ENGINE_FAILED, True)
    assert stub.asked == []
    assert (await producer.http.get("/health")).status_code == 503


@pytest.mark.parametrize("is_event", [True, False])
@pytest.mark.parametrize(
    ("path", "data"),
    [(CHAT, chat_data("answer 500")), (PREDICT, {"instances": ["answer 500"]})],
)
async def test_what_was_with_the_engine_when_it_ended_is_told_and_was_begun(
    producer: Producer, stub: Stub, path: str, data: Any, is_event: bool
) -> None:
    stub.app.state.engine_client = Engine(lambda: bool(stub.asked))
    headers = {f"ce-{name}": value for name, value in EVENT.items()} if is_event else {}
    response = await producer.http.post(path, json=data, headers=headers)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert (response.json()["reason"], response.json()["retryable"]) == (ENGINE_FAILED, True)
    assert NOT_BEGUN_HEADER not in response.headers


async def test_a_route_that_fails_while_the_engine_runs_answers_itself(
    producer: Producer, stub: Stub
) -> None:
    stub.app.state.engine_client = Engine(lambda: False)
    response = await producer.http.post(CHAT, json=chat_data("answer 500"))
    assert (response.status_code, response.json()["error"]["message"]) == (500, "scripted 500")


async def test_a_drain_that_ends_the_engine_is_told_as_a_drain(
    producer: Producer, stub: Stub
) -> None:
    """vLLM ends its engine before its server; a plane need not wait for the process then."""
    stub.app.state.engine_client = Engine(lambda: True)
    PROCESS.state = "draining"
    response = await producer.http.post(CHAT, json=chat_data())
    assert (response.status_code, response.headers[NOT_BEGUN_HEADER]) == (503, DRAINING)


@pytest.mark.parametrize("without", ["terminate_if_errored", "watchdog_loop"])
def test_a_release_that_watches_its_engine_otherwise_starts_its_own_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, without: str
) -> None:
    launcher: Any = ModuleType("vllm.entrypoints.launchers.launcher")
    exec(
        "def terminate_if_errored(server, engine): ...\n"
        "async def watchdog_loop(server, engine): ...",
        launcher.__dict__,
    )
    delattr(launcher, without)
    before = dict(launcher.__dict__)
    monkeypatch.setitem(sys.modules, launcher.__name__, launcher)
    internals.end_with_the_engine()
    assert launcher.__dict__ == before
    assert without in caplog.text


async def test_the_server_ends_soon_after_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM looks every 5 s; the module here has the names of its own."""
    launcher: Any = ModuleType("vllm.entrypoints.launchers.launcher")
    exec(  # so that its functions have this module's globals, as vLLM's have
        "def terminate_if_errored(server, engine): server.should_exit = engine.errored\n"
        "async def watchdog_loop(server, engine): raise AssertionError",
        launcher.__dict__,
    )
    monkeypatch.setitem(sys.modules, launcher.__name__, launcher)
    monkeypatch.setattr(internals, "_ENGINE_EVERY_S", 0)
    internals.end_with_the_engine()
    server, engine = SimpleNamespace(should_exit=False), SimpleNamespace(errored=False)
    watch = asyncio.create_task(launcher.watchdog_loop(server, engine))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not server.should_exit
    engine.errored = True
    while not server.should_exit:
        await asyncio.sleep(0)
    watch.cancel()


@pytest.mark.parametrize(("state", "ends"), [("loading", [1]), ("ready", []), ("draining", [])])
def test_a_server_that_still_starts_ends_when_its_engine_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, state: str, ends: list[int]
) -> None:
    """It may wait for ever for its answer; the monitor of vLLM returns when an engine has ended."""
    vllm, ended = ModuleType("vllm.v1.engine.utils"), []
    manager = type("CoreEngineProcManager", (), {"monitor_engine_liveness": lambda _: None})
    vllm.CoreEngineProcManager = manager  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, vllm.__name__, vllm)
    monkeypatch.setattr(internals, "_SAYS_WHY_WITHIN_S", 0)
    monkeypatch.setattr("os._exit", ended.append)
    phases = Phases()
    phases.state = state
    internals.end_a_start_with_the_engine(phases)
    manager().monitor_engine_liveness()  # type: ignore[attr-defined]
    assert (ended, "EngineCore died" in caplog.text) == (ends, bool(ends))
