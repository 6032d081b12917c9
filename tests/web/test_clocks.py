"""Every read has an end, and a client that stops sending gets the answer that it waits for."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest
from served import Echo, answer, serving
from starlette.types import Message, Receive, Scope, Send

from relume.base import limits
from relume.web import protocol

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is patient for 0.3 s only."""
    monkeypatch.setattr(protocol, "PATIENCE_S", 0.3)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(POST + b"12345", id="half a body"),
        pytest.param(POST, id="a head without its body"),
        pytest.param(POST[:30], id="half a head"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
            id="chunks without the last one",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
            b"Content-Length: 10\r\n\r\n12345",
            id="half a body behind an offer to upgrade",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + POST + b"1",
            id="half a body behind a whole request",
        ),
    ],
)
async def test_silence_in_a_request_ends_with_408(hurried: None, sent: bytes) -> None:
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        began = time.monotonic()
        async with asyncio.timeout(60):
            status, headers, said = await answer(reader)
            if sent.startswith(b"GET"):
                status, headers, said = await answer(reader)
            assert await reader.read() == b""
        assert (status, headers["connection"]) == (408, "close")
        assert (said["reason"], said["retryable"]) == ("request-too-slow", True)
        assert time.monotonic() - began >= 0.25
        writer.close()


async def test_the_application_learns_that_the_client_was_given_up(hurried: None) -> None:
    echo = Echo()
    async with serving(echo) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"12345")
        async with asyncio.timeout(60):
            await echo.gone.wait()
        writer.close()


async def test_bytes_that_drip_in_do_not_hold_a_request(hurried: None) -> None:
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"10", b"1000"))
        answered = asyncio.create_task(answer(reader))
        async with asyncio.timeout(60):
            while not answered.done():
                writer.write(b"x")
                await asyncio.sleep(0.05)
        status, _, _ = await answered
        assert status == 408
        writer.close()


async def test_a_slow_client_that_goes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PATIENCE_S", 1.0)
    echo = Echo()
    async with serving(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"10", b"1500"))
        for _ in range(15):
            await asyncio.sleep(0.1)  # 1000 bytes a second, for longer than the patience
            writer.write(b"x" * 100)
        async with asyncio.timeout(60):
            status, _, said = await answer(reader)
        assert (status, len(said["body"])) == (200, 1500)
        writer.close()


async def test_a_connection_is_kept_between_requests_and_before_the_first(hurried: None) -> None:
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            await asyncio.sleep(0.7)
            writer.write(POST + b"1234567890")
            async with asyncio.timeout(60):
                assert (await answer(reader))[0] == 200
            writer.write(b"\r\n")  # as some clients do behind a body (RFC 9112 §2.2)
        writer.close()


class Slow:
    """An app that reads its request when it is told, then answers when it is told."""

    def __init__(self) -> None:
        self.read, self.release = asyncio.Event(), asyncio.Event()
        self.gone = asyncio.Event()
        self.size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.read.wait()
        while (message := await receive())["type"] == "http.request":
            self.size += len(message["body"])
            if not message["more_body"]:
                break
        watch = asyncio.create_task(self._watch(receive))
        await self.release.wait()
        watch.cancel()
        await send(_start(b"4"))
        await send({"type": "http.response.body", "body": b"done"})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        self.release.set()


def _start(length: bytes) -> Message:
    headers = [(b"content-length", length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@pytest.fixture
async def slow() -> AsyncIterator[tuple[int, Slow]]:
    app = Slow()
    async with serving(app) as port:
        yield port, app
        app.read.set()
        app.release.set()


async def test_a_request_that_the_application_does_not_read_on_has_time(
    hurried: None, slow: tuple[int, Slow]
) -> None:
    port, app = slow
    body = b"x" * 4_000_000  # more than the server reads ahead
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST.replace(b"10", b"%d" % len(body)) + body)
    await asyncio.sleep(1)
    app.read.set()
    app.release.set()
    async with asyncio.timeout(60):
        assert await answer(reader) == (200, {"content-length": "4"}, b"done")
    assert app.size == len(body)
    writer.close()


async def test_an_answer_may_take_longer_than_the_patience(
    hurried: None, slow: tuple[int, Slow]
) -> None:
    port, app = slow
    app.read.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST + b"1234567890")
    await asyncio.sleep(1)
    app.release.set()
    async with asyncio.timeout(60):
        assert (await answer(reader))[0] == 200
    writer.close()


async def test_a_half_closed_client_gets_its_answer(slow: tuple[int, Slow]) -> None:
    port, app = slow
    app.read.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST + b"1234567890")
    writer.write_eof()
    await asyncio.sleep(0.5)
    assert not app.gone.is_set()
    app.release.set()
    async with asyncio.timeout(60):
        status, headers, said = await answer(reader)
        assert (status, headers["connection"], said) == (200, "close", b"done")
        assert await reader.read() == b""
    writer.close()


async def test_pipelined_requests_of_a_half_closed_client_are_all_answered() -> None:
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((POST + b"1234567890") * 5)
        writer.write_eof()
        async with asyncio.timeout(60):
            assert [(await answer(reader))[0] for _ in range(5)] == [200] * 5
            assert await reader.read() == b""
        writer.close()


def _close(connection: socket.socket) -> None:
    connection.close()


def _close_in_two_steps(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.1)
    connection.close()


@pytest.mark.parametrize("leave", [_close, _close_in_two_steps])
async def test_a_client_that_left_is_noticed(
    slow: tuple[int, Slow], leave: Callable[[socket.socket], None]
) -> None:
    port, app = slow
    app.read.set()
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(POST + b"1234567890")
    await asyncio.sleep(0.05)
    await asyncio.to_thread(leave, connection)
    async with asyncio.timeout(20):  # long before the patience is over
        await app.gone.wait()


async def test_a_request_that_ends_in_the_middle_is_gone_at_once(slow: tuple[int, Slow]) -> None:
    port, app = slow
    app.read.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(POST + b"123")
    writer.write_eof()
    async with asyncio.timeout(10):  # long before the patience is over
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"x" * 65536, id="one header without an end"),
        pytest.param(b"\r\nX-Line: x" * 4096, id="headers without an end"),
    ],
)
async def test_a_head_without_an_end_is_refused_with_431(line: bytes) -> None:
    """RFC 6585 §5. Without a bound, one client could fill the memory of the server."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nX-Long: x" + line * (limits.HEAD_BYTES // len(line) + 1)
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head[: limits.HEAD_BYTES + 1])
        status, headers, said = await answer(reader)
        assert (status, headers["connection"]) == (431, "close")
        assert (said["reason"], said["retryable"]) == ("head-too-large", False)
        assert await reader.read() == b""
        writer.close()


async def test_a_head_of_the_largest_event_is_read() -> None:
    headers = b"".join(b"X-%d: %s\r\n" % (n, b"x" * limits.ATTRIBUTE_BYTES) for n in range(30))
    async with serving(Echo()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + headers + b"Content-Length: 0\r\n\r\n")
        status, _, _ = await answer(reader)
        assert status == 200
        writer.close()


class Refusing:
    """An app that refuses a request before it has read its body, and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"4"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"much"})


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n", b"413"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"no request\r\n\r\n", b"400"),
    ],
)
async def test_a_client_that_still_sends_can_read_why_it_was_refused(
    head: bytes, status: bytes
) -> None:
    async with serving(Refusing()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        assert (await reader.readexactly(12))[9:] == status
        for _ in range(50):  # a connection that is closed would be reset by this
            writer.write(b"x" * 100_000)
            await writer.drain()
        answer = await reader.read()
        assert answer.endswith((b"much", b"}", b"received."))
        writer.close()
