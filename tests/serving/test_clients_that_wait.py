"""What SDKs and HTTP clients make of a stream with heartbeats: its parts, its failures, its waits.

A plane on a real port under the real clock, with a predictor in this process that is ready, or
dies, when a test says so.
"""

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests
from aiohttp import web

from relume.config import InferenceService
from relume.plane.addresses import listen, url_of
from relume.plane.server import HttpServer
from relume.serving.plane import ServingPlane
from relume.serving.revision import Backoff
from relume.serving.settings import ServingSettings

from .conftest import service
from .virtual import InProcessLauncher, eventually

PREFER = {"Prefer": "heartbeat=1"}
HI: Any = [{"role": "user", "content": "Hi"}]
USAGE: Any = {"include_usage": True}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
BODY: dict[str, Any] = {"model": "summarize", "messages": HI, "stream": True}


def chat(*deltas: dict[str, Any], usage: dict[str, int] | None = None) -> list[dict[str, Any]]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "summarize"}
    found: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    return found if usage is None else [*found, {**head, "choices": [], "usage": usage}]


COUNTED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALLED = {"name": "weather", "arguments": '{"city":"Paris"}'}
TOOL_CALL = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": CALLED}]}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 0, "model": "m", "output": []}
OF_CLAUDE = [
    ("message_start", {"message": {"id": "m", "type": "message", "role": "assistant"}}),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
    ("content_block_stop", {"index": 0}),
    ("message_stop", {}),
]
OF_CLAUDE[0][1]["message"] |= {  # type: ignore[index]
    "content": [],
    "model": "summarize",
    "stop_reason": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


def events_of(path: str, asked: dict[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """What vLLM streams on a route, in small."""
    if path.endswith("/chat/completions"):
        said = TOOL_CALL if "tools" in asked else {"content": "Hello"}
        return [(None, each) for each in chat({"role": "assistant"}, said, usage=COUNTED)]
    if path.endswith("/completions"):
        choice = {"index": 0, "text": "Hello", "finish_reason": None, "logprobs": None}
        head = {"id": "1", "object": "text_completion", "created": 0, "model": "summarize"}
        return [(None, {**head, "choices": [choice]})]
    if path.endswith("/responses"):
        delta = {"delta": "Hello", "item_id": "i", "output_index": 0, "content_index": 0}
        parts = [
            ("response.created", {"response": RESPONSE}),
            ("response.output_text.delta", delta),
        ]
        return [(kind, {"type": kind, **data}) for kind, data in parts]
    return [(kind, {"type": kind, **data}) for kind, data in OF_CLAUDE]


async def streams(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    for kind, data in events_of(request.path, await request.json()):
        name = "" if kind is None else f"event: {kind}\n"
        await answer.write(f"{name}data: {json.dumps(data)}\n\n".encode())
    if not request.path.endswith("/messages"):
        await answer.write(b"data: [DONE]\n\n")
    return answer


class Place:
    """A plane with one service, which is at zero in the beginning."""

    def __init__(self, plane: ServingPlane, launcher: InProcessLauncher, url: str) -> None:
        self.plane = plane
        self.launcher = launcher
        self.url = url

    @property
    def held(self) -> int:
        found: int = self.plane.status()["services"][0]["held"]
        return found

    async def after_a_wait(self, call: Callable[[], Any]) -> Any:
        """The result of `call` in a thread, whose request waits until the comments have begun."""
        asking = asyncio.create_task(asyncio.to_thread(call))
        await self.waits()
        self.launcher.started[-1].ready = True
        return await asking

    async def fails(self, call: Callable[[], Any]) -> BaseException:
        """What `call` raises when the start for which it waits fails."""
        asking = asyncio.create_task(asyncio.to_thread(call))
        await self.waits()
        self.launcher.started[-1].exit(3)
        with pytest.raises(Exception) as error:
            await asking
        return error.value

    async def waits(self) -> None:
        """Return when a request is held for a start that is under way, and its headers are sent."""
        started = self.launcher.started
        await eventually(lambda: self.held > 0 and bool(started) and not started[-1].exited)
        await asyncio.sleep(0.05)  # its headers and the first comment go out


@asynccontextmanager
async def place(
    folder: Path, what: InferenceService | None = None, handler: Any = streams
) -> AsyncIterator[Place]:
    launcher = InProcessLauncher(handler)
    settings = ServingSettings(probe_interval_s=0.01, backoff=Backoff(first_s=0.2))
    plane = ServingPlane((what or service(),), launcher, log_dir=folder / "logs", settings=settings)
    await plane.start()
    with listen(0, "--port") as listening:
        server = HttpServer(plane.app, listening)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            try:
                yield Place(plane, launcher, url_of(listening))
            finally:
                await plane.stop(0)
                server.stop_now()


def sdk(p: Place, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{p.url}/openai/v1", api_key="-", **{"max_retries": 0} | options)


def chatted(client: openai.OpenAI, **more: Any) -> list[Any]:
    stream: Any = client.chat.completions.create(
        model="summarize", messages=HI, stream=True, extra_headers=PREFER, **more
    )
    return list(stream)


def completed(client: openai.OpenAI) -> list[Any]:
    stream = client.completions.create(
        model="summarize", prompt="Hi", stream=True, extra_headers=PREFER
    )
    return list(stream)


def responded(client: openai.OpenAI) -> list[Any]:
    stream = client.responses.create(
        model="summarize", input="Hi", stream=True, extra_headers=PREFER
    )
    return list(stream)


def talked(p: Place) -> list[str]:
    """The kinds of the events of Anthropic's SDK."""
    client = anthropic.Anthropic(base_url=f"{p.url}/openai", api_key="-", max_retries=0)
    with client.messages.stream(
        model="summarize", messages=HI, max_tokens=9, extra_headers=PREFER
    ) as stream:
        return [event.type for event in stream]


async def test_the_openai_sdk_reads_each_route_after_a_wait(tmp_path: Path) -> None:
    def words(client: openai.OpenAI) -> tuple[Any, ...]:
        parts = chatted(client, stream_options=USAGE)
        (call,) = chatted(client, tools=TOOLS)[1].choices[0].delta.tool_calls
        return (
            parts[1].choices[0].delta.content,
            parts[-1].usage.total_tokens,
            (call.function.name, call.function.arguments),
            completed(client)[0].choices[0].text,
            [each.type for each in responded(client)],
        )

    async with place(tmp_path) as p:
        called = ("weather", '{"city":"Paris"}')
        types = ["response.created", "response.output_text.delta"]
        with sdk(p) as client:
            told = await p.after_a_wait(lambda: words(client))
            assert told == ("Hello", 5, called, "Hello", types)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: chatted(client, stream_options=USAGE),
        lambda client: chatted(client, tools=TOOLS),
        completed,
        responded,
    ],
    ids=["chat with usage", "chat with tools", "completions", "responses"],
)
async def test_each_call_of_the_openai_sdk_may_be_the_one_that_waits_or_fails(
    tmp_path: Path, ask: Callable[[openai.OpenAI], list[Any]]
) -> None:
    async with place(tmp_path) as p:
        with sdk(p) as client:
            error = await p.fails(lambda: ask(client))
            assert isinstance(error, openai.APIError)
            assert "exited with code 3" in error.message
            assert isinstance(error.body, dict)
            told = (error.code, error.body["reason"], error.body["retry_after"])
            assert told == ("503", "predictor-failed", 0.2)
            assert len(await p.after_a_wait(lambda: ask(client))) >= 1


async def test_the_asynchronous_sdk_reads_the_same_and_may_leave(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        url = f"{p.url}/openai/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="-", max_retries=0) as client:

            async def begun() -> Any:
                return await client.chat.completions.create(
                    model="summarize", messages=HI, stream=True, extra_headers=PREFER
                )

            stream = await begun()  # its headers are there, and nothing is ready
            assert p.held == 1
            await stream.close()
            await eventually(lambda: p.held == 0, "the request went with its client")
            stream = await begun()
            await p.waits()
            p.launcher.started[-1].ready = True
            assert [each.choices[0].delta.content async for each in stream if each.choices] == [
                *(None, "Hello")
            ]


async def test_comments_keep_the_sdk_from_timing_out(tmp_path: Path) -> None:
    """Its time is that between two bytes. Without heartbeats the same client gives up."""
    async with place(tmp_path) as p:
        with sdk(p, timeout=1.5) as client:
            impatient: Any = {"model": "summarize", "messages": HI, "stream": True}
            begun = asyncio.create_task(asyncio.to_thread(lambda: chatted(client)))
            short = client.with_options(timeout=0.2)
            with pytest.raises(openai.APITimeoutError):
                await asyncio.to_thread(lambda: short.chat.completions.create(**impatient))
            await asyncio.sleep(1.8)
            p.launcher.started[-1].ready = True
            assert len(await begun) == 3


async def test_the_sdk_comes_again_after_the_time_in_retry_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = service(annotations={"relume.dev/max-held": "1"})
    async with place(tmp_path, few) as p:
        slept: list[float] = []
        let_go = threading.Event()

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            let_go.wait(20)

        monkeypatch.setattr("openai._base_client.time.sleep", sleep)
        with sdk(p) as first, sdk(p, max_retries=1) as second:
            holds = asyncio.create_task(asyncio.to_thread(lambda: chatted(first)))
            await p.waits()
            with pytest.raises(openai.RateLimitError, match="1 requests wait") as error:
                await asyncio.to_thread(lambda: chatted(first))
            assert error.value.response.headers["retry-after"] == "10"
            again = asyncio.create_task(asyncio.to_thread(lambda: chatted(second)))
            await eventually(lambda: bool(slept))
            p.launcher.started[-1].ready = True
            assert len(await holds) == 3
            let_go.set()
            assert len(await again) == 3
            assert slept == [10.0]


async def test_an_answer_that_takes_too_long_is_no_answer_that_is_complete(tmp_path: Path) -> None:
    """The time of the service is over in the middle of the stream, of a request that has waited and
    of one that has not; SDKs ignore Knative's text at the end of a stream (checklist A5)."""

    async def goes_on(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        while True:
            (part,) = chat({"content": "more "})
            await answer.write(f"data: {json.dumps(part)}\n\n".encode())
            await asyncio.sleep(0.05)

    async with place(tmp_path, service(timeout_s=1), goes_on) as p:
        with sdk(p) as client:

            def too_long() -> None:
                with pytest.raises(openai.APIError, match="activator request timeout") as error:
                    chatted(client)
                assert error.value.code == "504"

            await p.after_a_wait(too_long)
            await asyncio.to_thread(too_long)


async def test_a_model_that_dies_in_the_middle_of_the_stream_is_an_error_of_the_sdk(
    tmp_path: Path,
) -> None:
    async def breaks_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(f"data: {json.dumps(chat({'content': 'half'})[0])}\n\n".encode())
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with place(tmp_path, handler=breaks_off) as p:
        with sdk(p) as client:

            def broken() -> None:
                with pytest.raises(openai.APIConnectionError):
                    chatted(client)

            await p.after_a_wait(broken)


async def test_anthropics_sdk_reads_the_stream_and_its_failure(tmp_path: Path) -> None:
    async with place(tmp_path) as p:
        error = await p.fails(lambda: talked(p))
        assert isinstance(error, anthropic.APIStatusError)
        assert "exited with code 3" in error.message
        kinds = await p.after_a_wait(lambda: talked(p))
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "text" in kinds


async def by_aiohttp(url: str) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=BODY, headers=PREFER) as answer,
    ):
        return [line.decode().rstrip("\n") async for line in answer.content]


def by_httpx(url: str) -> list[str]:
    with httpx.stream("POST", url, json=BODY, headers=PREFER, timeout=5) as answer:
        return list(answer.iter_lines())


def by_requests(url: str) -> list[str]:
    answer = requests.post(url, json=BODY, headers=PREFER, stream=True, timeout=5)
    return [line.decode() for line in answer.iter_lines()]


def by_curl(url: str) -> list[str]:
    words = [
        "curl",
        "-sN",
        url,
        "-H",
        "Prefer: heartbeat=1",
        "-H",
        "Content-Type: application/json",
    ]
    done = subprocess.run([*words, "-d", json.dumps(BODY)], capture_output=True, check=True)
    return done.stdout.decode().split("\n")


@pytest.mark.parametrize(
    "read",
    [by_httpx, by_requests, by_curl, lambda url: asyncio.run(by_aiohttp(url))],
    ids=["httpx", "requests", "curl", "aiohttp"],
)
async def test_every_client_of_http_gets_whole_comments_and_then_the_stream(
    tmp_path: Path, read: Callable[[str], list[str]]
) -> None:
    async with place(tmp_path) as p:
        url = f"{p.url}/openai/v1/chat/completions"
        lines = [line for line in await p.after_a_wait(lambda: read(url)) if line]
        comments = [line for line in lines if line.startswith(":")]
        assert lines[: len(comments)] == comments and comments[0] == ": starting"
        assert comments[-1].startswith(": running relume-queue-ms=")
        data = [json.loads(line.removeprefix("data: ")) for line in lines[len(comments) : -1]]
        assert data == chat({"role": "assistant"}, {"content": "Hello"}, usage=COUNTED)
        assert lines[-1] == "data: [DONE]"
