"""A client that waits for its stream: headers, comments, then the predictor's own stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from relume.base.testing import settle
from relume.base.vocabulary import ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.config.waiting import Waiting
from relume.plane.addresses import listen, url_of
from relume.plane.server import HttpServer
from relume.serving.heartbeat import MOST_REQUEST_BYTES, Wish, wish_of
from relume.serving.plane import ServingPlane
from relume.serving.settings import ServingSettings

from .conftest import Stage, Staging, service
from .conversation import Conversation
from .virtual import NUMBER, InProcessLauncher, eventually

STREAM = b'{"model": "summarize", "stream": true}'
PREFER = {"prefer": "heartbeat=5", "content-type": "application/json"}
CHAT = "/serving/default/summarize/v1/chat/completions"
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":0,"model":"summarize","choices":'
)
SAID = (
    CHUNK + b'[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
)


async def stream(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(SAID)
    return answer


def ask(s: Stage, path: str = CHAT, **changes: Any) -> Conversation:
    return s.ask(path, **{"headers": PREFER, "body": STREAM, **changes})


async def test_headers_come_at_once_then_comments_then_the_stream(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        request = ask(s)
        await s.launched()
        await settle()
        assert request.status == 200
        assert request.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert request.headers["preference-applied"] == "heartbeat=5"
        assert request.chunks == [b": starting\n\n"]
        await s.clock.advance(10)
        await eventually(lambda: b"phase" in request.body or s.clock.monotonic() > 100)
        assert len(request.chunks) == 3
        predictor = await s.ready()
        await request.end()
        comments, _, rest = request.body.partition(b": running ")
        told, _, said = rest.partition(b"\n\n")
        assert comments.endswith(b": starting phase=weights\n\n")
        assert b"relume-cold-start-ms=" in told and b"relume-queue-ms=" in told
        assert (said, request.complete) == (SAID, True)
        assert "accept-encoding" not in predictor.seen[0].headers


async def test_the_time_that_is_left_is_told_from_the_second_start_on(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        first = ask(s)
        await s.launched()
        await s.clock.advance(20)
        await s.ready()
        await first.end()
        await s.clock.advance(120)
        await eventually(lambda: s.status()["state"] == "zero")
        assert 20 <= s.status()["ready_in_s"] <= 30
        second = ask(s)
        await s.launched(2)
        await s.clock.advance(5)
        assert b"ready_in=2" in second.chunks[0]
        assert b"ready_in=1" in second.chunks[1]
        second.hang_up()


async def test_a_wait_for_room_is_told_as_such(stage: Staging) -> None:
    busy = asyncio.Event()

    async def one_at_a_time(request: web.Request) -> web.StreamResponse:
        await busy.wait()
        return await stream(request)

    one = service(container_concurrency=1, max_replicas=1)
    async with stage(one, handler=one_at_a_time) as s:
        first = s.ask()
        await s.ready()
        second = ask(s)
        await settle()
        assert second.chunks == [b": queued\n\n"]
        busy.set()
        await first.end()
        await second.end()
        assert second.body.endswith(SAID)


async def test_a_request_whose_replica_does_not_begin_with_it_is_told_that_it_waits_again(
    stage: Staging,
) -> None:
    async def ended(request: web.Request) -> web.StreamResponse:
        if request.app[NUMBER] == 1:
            return web.Response(status=503, headers={NOT_BEGUN_HEADER: ENGINE_FAILED})
        return await stream(request)

    async with stage(handler=ended) as s:
        request = ask(s)
        await s.ready()
        await eventually(lambda: len(request.chunks) == 2 and s.status()["held"] == 1)
        assert request.chunks[1].startswith(b": running")
        s.launcher.started[0].exit(0)
        await s.launched(2)
        await s.clock.advance(5)
        assert request.chunks[2].startswith(b": starting")
        await s.ready(2)
        await request.end()
        assert request.body.endswith(SAID)


async def test_a_request_that_need_not_wait_goes_through_as_it_is(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        first = s.ask()
        await s.ready()
        await first.end()
        request = await ask(s).end()
        assert (request.body, "preference-applied" in request.headers) == (SAID, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"body": b'{"model": "summarize"}'},
        {"body": b'{"stream": "true"}'},
        {"body": b'{"stream": true'},
        {"body": b" " * (MOST_REQUEST_BYTES + 1) + STREAM},
        {"headers": {"content-type": "application/json"}},
        {"headers": {**PREFER, "prefer": "heartbeat=0"}},
        {"headers": {**PREFER, "ce-specversion": "1.0", "ce-id": "1"}},
        {"headers": {**PREFER, "content-type": "application/grpc"}},
        {"method": "HEAD", "body": b""},
        {"path": "/serving/default/summarize/v1/embeddings"},
    ],
    ids=[
        *("no stream", "a text", "not JSON", "too long", "not asked for", "0 s"),
        *("an event", "gRPC", "HEAD", "a route that does not stream"),
    ],
)
async def test_every_other_request_waits_as_ever(stage: Staging, changes: dict[str, Any]) -> None:
    async with stage(handler=stream) as s:
        request = ask(s, **changes)
        await s.launched()
        await s.clock.advance(30)
        assert request.status is None
        request.hang_up()


@pytest.mark.parametrize(
    ("prefer", "annotated", "every_s"),
    [
        ("heartbeat", Waiting(), 5),
        ("Heartbeat = 20", Waiting(), 20),
        ('wait=10, heartbeat="7"; x=y', Waiting(), 7),
        ("heartbeat=9999", Waiting(), 60),
        ("heartbeat=soon", Waiting(), None),
        ('other="a, heartbeat, b"', Waiting(), None),
        (None, Waiting(heartbeat=True), 5),
        (None, Waiting(heartbeat=True, heartbeat_s=15), 15),
        ("heartbeat=0", Waiting(heartbeat=True), None),
        ("heartbeat", Waiting(heartbeat=True, heartbeat_s=15), 15),
    ],
)
def test_a_client_or_its_service_asks(
    prefer: str | None, annotated: Waiting, every_s: int | None
) -> None:
    headers = [(b"content-type", b"application/json; charset=utf-8")]
    if prefer is not None:
        headers.append((b"prefer", prefer.encode()))
    scope = {"method": "POST", "headers": headers}
    wish = None if every_s is None else Wish(every_s, asked=prefer is not None)
    assert wish_of(scope, b"/v1/chat/completions", annotated) == wish


async def test_the_annotation_of_a_service_is_enough(stage: Staging) -> None:
    annotated = service(annotations={"relume.dev/heartbeat": "2"})
    async with stage(annotated, handler=stream) as s:
        request = ask(
            s, "/openai/v1/chat/completions", headers={"content-type": PREFER["content-type"]}
        )
        await s.launched()
        await s.clock.advance(4)
        assert len(request.chunks) == 3
        assert "preference-applied" not in request.headers
        request.hang_up()


async def test_a_start_that_fails_is_an_event_in_the_stream(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        request, of_claude = ask(s), ask(s, CHAT.replace("chat/completions", "messages"))
        predictor = await s.launched()
        await settle()
        predictor.exit(3)
        await request.end()
        await of_claude.end()
        events = [c.body.partition(b": starting\n\n")[2] for c in (request, of_claude)]
        error = json.loads(events[0].removeprefix(b"data: "))
        assert "exited with code 3" in error["error"]["message"]
        assert (error["error"]["code"], error["reason"]) == (503, "predictor-failed")
        assert error["retry_after"] == 1.0
        assert events[1].startswith(b'event: error\ndata: {"type":"error","error":{')
        assert request.complete and of_claude.complete


async def test_a_wait_that_takes_too_long_is_an_event_in_the_stream(stage: Staging) -> None:
    async with stage(service(timeout_s=30), handler=stream) as s:
        request = ask(s)
        await s.launched()
        await s.clock.advance(30)
        await request.end()
        error = json.loads(request.chunks[-1].removeprefix(b"data: "))
        assert (error["error"]["code"], error["reason"]) == (504, "timed-out")
        assert request.complete


async def test_comments_are_no_byte_of_the_answer_for_its_clocks(stage: Staging) -> None:
    late = service(timeout_s=300, response_start_timeout_s=30)
    async with stage(late, handler=stream) as s:
        request = ask(s)
        await s.launched()
        await s.clock.advance(30)
        await request.end()
        assert b"activator request timeout" in request.chunks[-1]


@pytest.mark.parametrize(
    ("answer", "message", "code"),
    [
        (
            lambda: web.json_response(
                {"error": {"message": "context too long", "code": 400}}, status=400
            ),
            "context too long",
            400,
        ),
        (lambda: web.json_response({"error": "no V2 here"}, status=404), "no V2 here", 404),
        (lambda: web.Response(text="oops", status=500), "the predictor gave status 500", 500),
        (
            lambda: web.json_response({"id": 1}),
            "the predictor gave an answer that is no stream",
            502,
        ),
    ],
    ids=["OpenAI's shape", "KServe's shape", "text", "no stream"],
)
async def test_what_the_predictor_refuses_is_an_event_in_the_stream(
    stage: Staging, answer: Any, message: str, code: int
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        found: web.Response = answer()
        return found

    async with stage(handler=refuse) as s:
        request = ask(s)
        await s.ready()
        await request.end()
        error = json.loads(request.chunks[-1].removeprefix(b"data: ").strip())["error"]
        assert (error["message"], error["code"]) == (message, code)
        assert request.complete


async def test_a_predictor_that_dies_before_its_first_byte_is_an_event_too(stage: Staging) -> None:
    async def die(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return answer

    async with stage(handler=die) as s:
        request = ask(s)
        await s.ready()
        await request.end()
        error = json.loads(request.chunks[-1].removeprefix(b"data: "))
        assert error["reason"] == "predictor-unreachable"


async def test_a_client_that_leaves_during_the_wait_leaves_nothing(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        request = ask(s)
        await s.launched()
        await s.clock.advance(5)
        request.hang_up()
        await request.end()
        chunks = len(request.chunks)
        await s.clock.advance(2)
        await eventually(lambda: s.status()["state"] == "zero")
        await s.clock.advance(60)
        assert (len(request.chunks), s.launcher.started[0].terminated) == (chunks, True)


async def test_a_plane_that_stops_says_so_in_the_stream(stage: Staging) -> None:
    async with stage(handler=stream) as s:
        request = ask(s)
        await s.launched()
        await settle()
    await request.end()
    assert json.loads(request.chunks[-1].removeprefix(b"data: "))["reason"] == "shutting-down"


@asynccontextmanager
async def served(folder: Path, launcher: InProcessLauncher) -> AsyncIterator[str]:
    """A plane on a real port, under the real clock."""
    plane = ServingPlane(
        (service(),), launcher, log_dir=folder / "logs", settings=ServingSettings()
    )
    await plane.start()
    with listen(0, "--port") as listening:
        server = HttpServer(plane.app, listening)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            try:
                yield url_of(listening)
            finally:
                await plane.stop(0)
                server.stop_now()


async def test_the_openai_sdk_reads_the_stream_and_its_failure(tmp_path: Path) -> None:
    launcher = InProcessLauncher(stream)
    async with served(tmp_path, launcher) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key="none", max_retries=0)
        async with client:

            async def chat() -> list[str | None]:
                chunks = await client.chat.completions.create(
                    model="summarize",
                    messages=[{"role": "user", "content": "Hi"}],
                    stream=True,
                    extra_headers={"Prefer": "heartbeat=1"},
                )
                return [each.choices[0].delta.content async for each in chunks]

            failing = asyncio.create_task(chat())
            await eventually(lambda: len(launcher.started) == 1)
            await asyncio.sleep(0.05)
            launcher.started[0].exit(3)
            with pytest.raises(openai.APIError, match="exited with code 3"):
                await failing
            waiting = asyncio.create_task(chat())
            await eventually(lambda: len(launcher.started) == 2)
            launcher.started[1].ready = True
            assert await waiting == ["Hello"]


async def test_a_client_of_http_1_0_reads_the_stream_up_to_the_end(tmp_path: Path) -> None:
    launcher = InProcessLauncher(stream)
    async with served(tmp_path, launcher) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {CHAT} HTTP/1.0\r\nPrefer: heartbeat\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(STREAM)}\r\n\r\n".encode() + STREAM)
        assert b" 200 " in await reader.readline()
        await eventually(lambda: len(launcher.started) == 1)
        launcher.started[0].ready = True
        text = await reader.read()
        writer.close()
        body = text.partition(b"\r\n\r\n")[2]
        assert body.startswith(b": starting\n\n") and body.endswith(SAID)
