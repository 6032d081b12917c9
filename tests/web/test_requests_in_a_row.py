"""Requests in a row on one connection: each is answered, or hears that its client is gone."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from served import Echo, answer, answers, serving
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relume.base.limits import HEAD_BYTES
from relume.web.exchange import Exchange

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1"
CHUNKED = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILERS = b"1\r\na\r\n0\r\nX-Forwarded-For: evil\r\n\r\n"


class Waiting:
    """An app that begins to answer, and ends when it is told to, or when the client is gone."""

    def __init__(self, *, says_something: bool = True) -> None:
        self._says_something = says_something
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.gone = asyncio.Event()
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        head: Message = {"type": "http.response.start", "status": 200, "headers": [SIZE]}
        if self._says_something:
            await send(head)
        self.begun.set()
        watching = asyncio.ensure_future(self._watch(receive))
        ending = asyncio.ensure_future(self.may_end.wait())
        await asyncio.wait({watching, ending}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        ending.cancel()
        if not self._says_something:
            await send(head)
        await send({"type": "http.response.body", "body": b"{}"})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


SIZE = (b"content-length", b"2")


@pytest.mark.parametrize("behind", [b"", POST, POST * 3])
async def test_a_running_request_hears_that_its_client_is_gone(behind: bytes) -> None:
    app = Waiting()
    async with serving(app) as port, asyncio.timeout(60):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + behind)
        await app.begun.wait()
        writer.transport.abort()
        await app.gone.wait()
    assert app.asked == ["/a"], "what waited behind it is not begun for a client that is gone"


@pytest.mark.parametrize("says_something", [True, False])
@pytest.mark.parametrize(
    ("sent", "number"),
    [
        pytest.param(POST + b"\0\1 garbage\r\n\r\n", 1, id="no request"),
        pytest.param(POST + POST + b"\0\1 garbage\r\n\r\n", 2, id="no request behind two"),
        pytest.param(POST + CHUNKED + b"xyz\r\n", 1, id="broken chunks"),
        pytest.param(POST + POST + CHUNKED + b"xyz\r\n", 2, id="broken chunks behind two"),
    ],
)
async def test_what_cannot_be_read_takes_nothing_from_requests_before_it(
    sent: bytes, number: int, says_something: bool
) -> None:
    app = Waiting(says_something=says_something)
    async with serving(app) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await app.begun.wait()
        app.may_end.set()
        for _ in range(number):
            status, _, said = await answer(reader)
            assert (status, said) == (200, {})
        assert await reader.read() == b""
        writer.close()
    assert app.asked == ["/a"] * number


async def test_an_answer_that_has_begun_is_cut_off_where_its_request_cannot_be_read() -> None:
    app = Waiting()
    async with serving(app) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(CHUNKED + b"1\r\na\r\n")
        await app.begun.wait()
        writer.write(b"xyz\r\n")
        assert (await reader.read()).endswith(b"content-length: 2\r\n\r\n")
        await app.gone.wait()
        writer.close()


async def test_an_app_that_fails_behind_its_answer_takes_nothing_from_the_next_request() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await waiting(scope, receive, send)
        if scope["path"] == "/a":
            await waiting.begun.wait()  # the second request is being answered
            failing.set()
            raise ValueError("a task behind the answer")

    waiting, failing = Waiting(), asyncio.Event()
    waiting.may_end.set()
    async with serving(app) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        assert (await answer(reader))[0] == 200
        waiting.begun.clear()
        waiting.may_end.clear()
        writer.write(POST.replace(b"/a", b"/b"))
        await failing.wait()
        waiting.may_end.set()
        assert (await answer(reader))[2] == {}
        writer.close()


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_may_tell_the_length_of_another(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [SIZE]})
        await send({"type": "http.response.body"})

    async with serving(app) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST * 2)
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
        writer.close()


async def test_what_cannot_be_read_behind_an_early_answer_is_refused() -> None:
    app = Waiting()
    app.may_end.set()
    async with serving(app) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST[:-1])
        assert (await answer(reader))[0] == 200
        writer.write(POST[-1:] + b"\0\1 garbage\r\n\r\n")
        assert (await answer(reader))[0] == 400
        writer.close()


async def test_trailers_are_no_headers() -> None:
    app = Echo()
    async with serving(app) as port:
        found = await answers(port, CHUNKED + TRAILERS + POST, number=2)
    assert [said["body"] for _, _, said in found] == ["a", "1"]
    assert [sorted(said["headers"]) for _, _, said in found] == [
        ["host", "transfer-encoding"],
        ["content-length", "host"],
    ]


async def test_trailers_without_an_end_are_refused() -> None:
    sent = CHUNKED + b"1\r\na\r\n0\r\n" + b"x: y\r\n" * (HEAD_BYTES // 3)
    app = Echo()
    async with serving(app) as port:
        [(status, headers, said)] = await answers(port, sent)
    assert (status, headers["connection"], said["reason"]) == (431, "close", "head-too-large")
    assert not app.asked


async def test_a_body_in_many_parts_is_not_copied_for_each() -> None:
    protocol: Any = SimpleNamespace(expect_100_continue=False, transport=None, flow=None)
    exchange = Exchange(protocol, {"http_version": "1.1"}, keep_alive=True)
    exchange.take(b"a")
    exchange.take(b"b")
    body = exchange.body
    exchange.take(b"c")
    assert exchange.body is body
    assert body == b"abc"


async def test_it_runs_on_a_uvicorn_that_starts_tasks_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task", raising=False)
    async with serving(Echo()) as port:
        found = await answers(port, POST + POST, number=2)
    assert [status for status, _, _ in found] == [200, 200]
