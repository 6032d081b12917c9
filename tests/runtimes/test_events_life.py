"""Requests over their whole life: duplicates, clients that hang up, the drain, plain HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from event_client import EVENT, Producer, Reply, chat_data
from stub_vllm import CHUNKS, MODEL, Stub

from relume.runtimes.drain import IN_FLIGHT
from relume.runtimes.internals import read_http_as_we_do
from relume.runtimes.phases import PROCESS

CHAT = "/v1/chat/completions"


@asynccontextmanager
async def serving(stub: Stub) -> AsyncIterator[int]:
    """The stub behind uvicorn, as vLLM serves; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    read_http_as_we_do()
    config = uvicorn.Config(stub.app, log_level="error", lifespan="off", server_header=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server._serve([listening]))
        yield int(listening.getsockname()[1])
        server.should_exit = True
        server.force_exit = True
        await task


def raw_event(data: object, path: str = "/", **more: str) -> bytes:
    """An event in binary mode as bytes on the wire."""
    body = json.dumps(data).encode()
    fields = {"host": "x", "content-type": "application/json", "content-length": str(len(body))}
    fields |= {f"ce-{name}": value for name, value in EVENT.items()} | more
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def test_the_same_event_is_answered_once_at_a_time(producer: Producer, stub: Stub) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(producer.binary(chat_data("wait")))
        await stub.running.wait()
        second = await producer.structured({"data": chat_data()}, headers={"prefer": "reply"})
        other = await producer.binary(chat_data(), id="e-2")
        stub.release.set()
    assert second.status_code == 409
    assert (second.json()["reason"], second.json()["retryable"]) == ("in-progress", True)
    assert other.status_code == 200
    answered = Reply.of(first.result())
    again = Reply.of(await producer.binary(chat_data()))
    assert answered.attributes["id"] == again.attributes["id"]


@pytest.mark.parametrize("text", ["raise", "answer 429", "answer 400"])
async def test_an_event_that_failed_may_come_again(producer: Producer, text: str) -> None:
    await producer.binary(chat_data(text))
    assert (await producer.binary(chat_data())).status_code == 200


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/", chat_data("wait")),
        (CHAT, chat_data("wait")),
        (f"/v1/models/{MODEL}:predict", {"instances": ["wait"]}),
    ],
)
async def test_a_client_that_hangs_up_cancels_what_was_started_for_it(
    stub: Stub, path: str, data: object
) -> None:
    async with serving(stub) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw_event(data, path))
        await stub.running.wait()
        assert IN_FLIGHT.requests == 1
        writer.close()
        await stub.cancelled.wait()
        await until_idle()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            headers = {f"ce-{name}": value for name, value in EVENT.items()}
            again = await http.post("/", json=chat_data(), headers=headers)
            assert again.status_code == 200


async def test_a_client_that_hangs_up_before_its_event_is_whole_asks_nothing(stub: Stub) -> None:
    async with serving(stub) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw_event(chat_data("hello"))[:-10])
        while IN_FLIGHT.requests == 0:
            await asyncio.sleep(0)
        writer.close()
        await until_idle()
    assert stub.asked == []


async def until_idle() -> None:
    """Let the server finish what it is doing."""
    while IN_FLIGHT.requests:
        await asyncio.sleep(0)


async def test_an_event_that_is_too_large_gets_its_413_over_the_wire(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.runtimes.middleware.MAX_EVENT_BYTES", 1 << 20)
    async with serving(stub) as port, httpx.AsyncClient() as http:
        headers = {f"ce-{name}": value for name, value in EVENT.items()}
        body = b"x" * (4 << 20)
        response = await http.post(f"http://127.0.0.1:{port}/", content=body, headers=headers)
        assert response.status_code == 413


async def exchange(stub: Stub, request: bytes) -> bytes:
    """All bytes that the server sends back, less the date."""
    async with serving(stub) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        received = await reader.read()
        writer.close()
    lines = received.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"date:"))


PLAIN = {
    "chat": (f"POST {CHAT}", json.dumps(chat_data("hello", model=MODEL)).encode()),
    "wrong chat": (f"POST {CHAT}", b"{"),
    "bytes": ("POST /bytes", bytes(range(256))),
    "no body": ("POST /bytes", b""),
    "get": ("GET /bytes?a=%20b", b""),
    "get of an event route": ("GET /", b""),
    "no such route": ("DELETE /v1/nothing", b""),
    "predict": (f"POST /v1/models/{MODEL}:predict", b'{"instances": ["hi"]}'),
}


@pytest.mark.parametrize(("line", "body"), PLAIN.values(), ids=PLAIN.keys())
async def test_plain_http_passes_byte_for_byte(process: None, line: str, body: bytes) -> None:
    head = f"{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nce-foreign: kept\r\n"
    request = head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body
    with_us, without = Stub(), Stub(middleware=False)
    assert await exchange(with_us, request) == await exchange(without, request)
    assert [a.body for a in with_us.asked] == [a.body for a in without.asked]
    assert [a.headers for a in with_us.asked if a.path == "/bytes"] == [
        a.headers for a in without.asked if a.path == "/bytes"
    ]


async def test_a_stream_passes_chunk_by_chunk(stub: Stub) -> None:
    """The route makes a chunk only when the client has taken the one before."""
    body = json.dumps(chat_data("hello", stream=True)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    async with serving(stub) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        for number in range(CHUNKS):
            await reader.readuntil(b"data: %d\n\n" % number)
            assert IN_FLIGHT.requests == 1
            stub.chunk_taken.release()
        await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        writer.close()


async def test_a_stream_ends_the_last_phase_at_its_first_chunk(stub: Stub) -> None:
    messages: asyncio.Queue[Any] = asyncio.Queue()
    body = json.dumps(chat_data("hello", stream=True)).encode()
    task = asyncio.create_task(call(stub, CHAT, body, messages))
    assert (await messages.get())["type"] == "http.response.start"
    assert (await messages.get())["body"] == b"data: 0\n\n"
    assert PROCESS.get("first_token") is not None
    stub.chunk_taken = asyncio.Semaphore(99)
    task.cancel()


async def test_an_event_is_in_progress_until_its_reply_has_been_sent(
    producer: Producer, stub: Stub
) -> None:
    slow: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)  # the body waits until the head is taken
    headers = {f"ce-{name}": value for name, value in EVENT.items()}
    headers["content-type"] = "application/json"
    body = json.dumps(chat_data()).encode()
    first = asyncio.create_task(call(stub, "/", body, slow, headers=headers))
    async with asyncio.timeout(60):
        while not slow.full():
            await asyncio.sleep(0)
    assert (await producer.binary(chat_data())).status_code == 409
    assert (await slow.get())["status"] == 200
    await first
    assert (await producer.binary(chat_data())).status_code == 200


async def call(stub: Stub, path: str, body: bytes, sent: asyncio.Queue[Any], **more: Any) -> None:
    """Call the app as a server would; `more`: headers, and `whole`, before which no body comes."""
    headers = [(k.encode(), v.encode()) for k, v in more.get("headers", {}).items()]
    scope = {
        **{"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http"},
        **{"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
        **{"headers": headers, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9)},
    }
    arrived = False

    async def receive() -> dict[str, Any]:
        nonlocal arrived
        if arrived:
            await asyncio.Event().wait()
        if whole := more.get("whole"):
            await whole.wait()
        arrived = True
        return {"type": "http.request", "body": body, "more_body": False}

    await stub.app(scope, receive, sent.put)


@pytest.mark.parametrize("prefer", [{}, {"prefer": "reply"}])
@pytest.mark.parametrize("path", ["/", CHAT, f"/v1/models/{MODEL}:predict"])
async def test_a_replica_that_drains_refuses_new_work(
    producer: Producer, stub: Stub, path: str, prefer: dict[str, str]
) -> None:
    PROCESS.state = "draining"
    event = await producer.binary(chat_data(), path, headers=prefer)
    plain = await producer.http.post(path, json=chat_data())
    for response in (event, plain):
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.headers["connection"] == "close"
        assert (response.json()["reason"], response.json()["retryable"]) == ("draining", True)
        assert isinstance(response.json()["error"], str if path.endswith("predict") else dict)
    assert stub.asked == []


async def test_a_replica_that_drains_says_so_to_probes_and_stays_alive(producer: Producer) -> None:
    """Checklist A11."""
    PROCESS.state = "draining"
    for path, status in [("/health", 503), ("/v2/health/ready", 503), ("/v2/health/live", 200)]:
        assert (await producer.http.get(path)).status_code == status
    startup = await producer.http.get("/startup")
    assert (startup.status_code, startup.json()["state"]) == (200, "draining")


@pytest.mark.parametrize("event", [True, False])
@pytest.mark.parametrize(
    ("path", "data"),
    [
        (CHAT, chat_data()),
        (f"/v1/models/{MODEL}:predict", {"instances": ["a", "b"]}),
        (
            f"/v2/models/{MODEL}/infer",
            {"inputs": [{"name": "q", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
        ),
    ],
)
async def test_what_was_accepted_before_the_drain_is_answered(
    stub: Stub, path: str, data: object, event: bool
) -> None:
    """Here the body is still on its way when SIGTERM comes: the inner calls start after it."""
    whole, sent = asyncio.Event(), asyncio.Queue[Any]()
    headers = {f"ce-{k}": v for k, v in EVENT.items()} if event else {}
    headers["content-type"] = "application/json"
    body = json.dumps(data).encode()
    task = asyncio.create_task(call(stub, path, body, sent, headers=headers, whole=whole))
    while IN_FLIGHT.requests == 0:
        await asyncio.sleep(0)
    PROCESS.state = "draining"
    whole.set()
    await task
    assert (await sent.get())["status"] == 200
    assert IN_FLIGHT.requests == 0


async def test_what_runs_is_in_flight_until_its_answer_is_sent(
    producer: Producer, stub: Stub
) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(producer.binary(chat_data("wait")))
        group.create_task(producer.binary(chat_data("wait"), id="e-2"))
        group.create_task(producer.http.post(CHAT, json=chat_data("wait")))
        while len(stub.asked) < 3:
            await asyncio.sleep(0)
        assert IN_FLIGHT.requests == 3
        stub.release.set()
    assert IN_FLIGHT.requests == 0


async def test_a_web_socket_is_in_flight_while_it_is_open(stub: Stub) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(_message: object) -> None:
        return

    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [], "root_path": ""}
    task = asyncio.create_task(stub.app(scope, receive, send))
    await stub.running.wait()
    assert IN_FLIGHT.requests == 1
    stub.release.set()
    await task


async def test_nothing_is_kept_of_an_event_that_was_answered(
    producer: Producer, stub: Stub
) -> None:
    for number in range(50):
        await producer.binary(chat_data("answer 400" if number % 2 else "x"), id=f"e-{number}")
    assert stub.middleware._running == set()
