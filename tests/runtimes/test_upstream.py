"""Events for a server that is not ours: `relume runtime --upstream`, in front of a plain server."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from event_client import Producer, Reply, chat_data
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from stub_vllm import MODEL, Stub

from relume.base.vocabulary import NOT_BEGUN_HEADER
from relume.plane.addresses import listen, url_of
from relume.plane.runtime import Runtime, RuntimeSettings
from relume.plane.server import HttpServer

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a port of its own; yields its URL."""
    with listen(0, "--port") as listening:
        server = HttpServer(app, listening)
        task = asyncio.create_task(server.serve())
        try:
            yield url_of(listening)
        finally:
            server.stop_now()
            await task


@dataclass(frozen=True)
class Pair:
    """A plain server, and the runtime in front of it."""

    stub: Stub
    producer: Producer
    http: httpx.AsyncClient


@asynccontextmanager
async def running(stub: Stub, *, model: str | None = MODEL, path: str = "") -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(served(stub.app))
        settings = RuntimeSettings(upstream + path, model, port=0, grace_s=5)
        runtime = await stack.enter_async_context(Runtime(settings).running())
        http = httpx.AsyncClient(base_url=runtime.url, trust_env=False, timeout=30)
        await stack.enter_async_context(http)
        producer = Producer(stub)
        producer.http = http
        yield Pair(stub, producer, http)


@pytest.fixture
async def pair(process: None) -> AsyncIterator[Pair]:
    async with running(Stub(middleware=False)) as pair:
        yield pair


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_an_event_is_answered_by_an_event_in_its_own_mode(pair: Pair, mode: str) -> None:
    if mode == "binary":
        answer = await pair.producer.binary(chat_data("hello"), subject="s")
    else:
        answer = await pair.producer.structured({"data": chat_data("hello"), "subject": "s"})
    reply = Reply.of(answer)
    assert reply.attributes["type"] == "relume.inference.response"
    assert reply.attributes["subject"] == "s"
    assert reply.data["choices"][0]["message"]["content"] == "HELLO"
    (asked,) = pair.stub.asked
    assert (asked.path, asked.body["model"]) == (CHAT, MODEL)
    assert not [name for name in asked.headers if name.startswith("ce-")]


async def test_an_event_that_can_never_succeed_gets_one_error_event(pair: Pair) -> None:
    answer = await pair.producer.binary({"messages": []}, headers={"prefer": "reply"})
    reply = Reply.of(answer)
    assert (answer.status_code, reply.attributes["type"]) == (200, "relume.inference.error")
    assert reply.data["retryable"] is False


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_is_busy_is_tried_again_by_the_broker(pair: Pair, status: int) -> None:
    answer = await pair.producer.binary(chat_data(f"answer {status}"))
    assert answer.status_code == status
    assert answer.headers["retry-after"]


async def test_that_the_server_takes_no_request_is_not_said_of_the_runtime(pair: Pair) -> None:
    """A plane would replace this process for it, again and again."""
    headers = {NOT_BEGUN_HEADER: "draining", "retry-after": "1"}
    pair.stub.app.router.routes.insert(
        0, Route(CHAT, lambda _: Response(status_code=503, headers=headers), methods=["POST"])
    )
    answer = await pair.http.post(CHAT, json=chat_data())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert NOT_BEGUN_HEADER not in answer.headers


async def test_a_request_that_is_no_event_goes_on_as_it_came(pair: Pair) -> None:
    sent = {"authorization": "Bearer x", "content-type": "application/json", "x-own": "own"}
    body = json.dumps({"model": MODEL, **chat_data("hi")}).encode()
    answer = await pair.http.post(CHAT + "?a=%2F", content=body, headers=sent)
    assert answer.json()["choices"][0]["message"]["content"] == "HI"
    (asked,) = pair.stub.asked
    assert (asked.headers["authorization"], asked.headers["x-own"]) == ("Bearer x", "own")
    assert asked.headers["host"] != pair.http.base_url.netloc.decode()
    assert answer.headers["content-type"] == "application/json"


async def test_a_stream_is_passed_on_part_by_part(pair: Pair) -> None:
    body = {"model": MODEL, "stream": True, **chat_data("hi")}
    async with pair.http.stream("POST", CHAT, json=body) as answer:
        parts = answer.aiter_text()
        assert "data:" in await anext(parts)
        pair.stub.chunk_taken.release()
        pair.stub.chunk_taken.release()
        pair.stub.chunk_taken.release()
        rest = "".join([part async for part in parts])
    assert rest


async def test_a_producer_that_hangs_up_ends_the_generation(pair: Pair) -> None:
    asking = asyncio.create_task(pair.producer.binary(chat_data("wait")))
    await asyncio.wait_for(pair.stub.running.wait(), 10)
    asking.cancel()
    await asyncio.wait_for(pair.stub.cancelled.wait(), 10)


async def test_a_compressed_event_is_read(pair: Pair) -> None:
    data = gzip.compress(json.dumps(chat_data("hello")).encode())
    answer = await pair.producer.binary(data, headers={"content-encoding": "gzip"})
    assert Reply.of(answer).data["choices"][0]["message"]["content"] == "HELLO"


async def test_kserves_prefix_is_taken_off(pair: Pair) -> None:
    answer = await pair.http.post(f"/openai{CHAT}", json={"model": MODEL, **chat_data("hi")})
    assert answer.status_code == 200
    assert pair.stub.asked[0].path == CHAT


async def test_an_event_that_names_no_model_asks_the_first_that_the_server_lists(
    process: None,
) -> None:
    async with running(Stub(middleware=False), model=None) as pair:
        reply = Reply.of(await pair.producer.binary(chat_data("hello")))
        assert reply.data["choices"][0]["message"]["content"] == "HELLO"
        assert pair.stub.asked[-1].body["model"] == MODEL


async def test_a_server_that_is_away_is_503_and_may_be_tried_again(process: None) -> None:
    settings = RuntimeSettings("http://127.0.0.1:9", None, port=0, grace_s=5)
    async with Runtime(settings).running() as runtime, httpx.AsyncClient(trust_env=False) as http:
        for path, headers in (("/", {"content-type": "text/plain"}), (CHAT, {})):
            answer = await http.post(runtime.url + path, content=b"{}", headers=headers)
            assert answer.status_code == 503
            assert answer.json()["reason"] == "upstream-unreachable"
            assert answer.headers["retry-after"]
