"""The client that posts events: what it sends, what it takes for an answer, and what it keeps."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from relume.base.limits import HEAD_BYTES
from relume.eventing.delivery.answer import Answer, BadAnswer, Header
from relume.eventing.delivery.connections import Connections, _Connection

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Scripted:
    """A server that answers each request with the next bytes; `requests` by connection."""

    def __init__(self, answers: Sequence[bytes], *, hangs_up: bool = False) -> None:
        self._answers = iter(answers)
        self.hangs_up = hangs_up
        self.requests: list[list[bytes]] = []
        self.closed = asyncio.Event()
        self.host = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own: list[bytes] = []
        self.requests.append(own)
        while head := await reader.read(2**16):
            own.append(head)
            writer.write(next(self._answers))
            if self.hangs_up:
                break
        writer.close()
        self.closed.set()


@asynccontextmanager
async def scripted(*answers: bytes, hangs_up: bool = False) -> AsyncIterator[Scripted]:
    script = Scripted(answers, hangs_up=hangs_up)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    async with server:
        script.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield script


@asynccontextmanager
async def connections(keep_s: float = 5.0) -> AsyncIterator[Connections]:
    found = Connections(keep_s=keep_s, connect_within_s=5.0)
    yield found
    found.close()


async def posted(
    client: Connections, url: str, headers: Sequence[Header] = (), limit: int = 1000
) -> Answer:
    async with asyncio.timeout(30):
        return await client.post(url, headers, b"body", lambda _: limit)


async def test_a_request_has_what_the_url_and_the_caller_say_and_nothing_else() -> None:
    async with scripted(NO_CONTENT) as server, connections() as client:
        await posted(client, f"http://me:secret@{server.host}/a b?c=%7Ed#e", [("ce-id", "ü")])
    head, _, body = server.requests[0][0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /a%20b?c=~d HTTP/1.1",
        b"host: " + server.host.encode(),
        b"authorization: Basic bWU6c2VjcmV0",
        b"user-agent: relume",
        b"accept-encoding: identity",
        "ce-id: ü".encode(),
        b"content-length: 4",
    ]
    assert body == b"body"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
async def test_a_header_of_two_lines_is_not_sent(value: str) -> None:
    async with scripted(NO_CONTENT) as server, connections() as client:
        with pytest.raises(ValueError, match="more than one line"):
            await posted(client, f"http://{server.host}/", [("ce-id", value)])
    assert not server.requests


@pytest.mark.parametrize("url", ["ftp://a/", "/path", "http:///path", "nonsense"])
async def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    async with connections() as client:
        with pytest.raises(ValueError, match="no URL"):
            await posted(client, url)


@pytest.mark.parametrize(
    ("script", "body"),
    [
        pytest.param(b"content-length: 3\r\n\r\nabc", b"abc", id="a length"),
        pytest.param(
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc", id="chunks"
        ),
        pytest.param(b"\r\nabc", b"abc", id="the end of the connection"),
        pytest.param(
            b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"abc"), b"abc", id="compressed"
        ),
        pytest.param(b"content-encoding: br\r\n\r\nabc", b"abc", id="an unknown coding"),
    ],
)
async def test_the_body_of_an_answer_ends_where_it_says(script: bytes, body: bytes) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    answer = interim + b"HTTP/1.1 200 OK\r\nX-A: 1\r\n" + script
    async with scripted(answer, hangs_up=True) as server, connections() as client:
        found = await posted(client, f"http://{server.host}/")
    assert (found.status, found.headers[0], found.body) == (200, ("X-A", "1"), body)


async def test_of_a_long_body_only_the_beginning_is_read() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 20
    async with scripted(answer, NO_CONTENT) as server, connections() as client:
        assert (await posted(client, f"http://{server.host}/", limit=10)).body == b"x" * 20
        assert (await posted(client, f"http://{server.host}/")).status == 204
    assert len(server.requests) == 2, "the first connection still has the rest of the body"


@pytest.mark.parametrize(
    ("answer", "connected"),
    [
        pytest.param(NO_CONTENT, 1, id="kept"),
        pytest.param(b"HTTP/1.1 204 No\r\nconnection: close\r\n\r\n", 2, id="closed by the server"),
        pytest.param(NO_CONTENT + NO_CONTENT, 2, id="a second answer"),
    ],
)
async def test_a_connection_is_used_again_unless_it_cannot(answer: bytes, connected: int) -> None:
    async with scripted(answer, answer) as server, connections() as client:
        for _ in range(2):
            assert (await posted(client, f"http://{server.host}/")).status == 204
    assert len(server.requests) == connected


@pytest.mark.parametrize(
    "first",
    [NO_CONTENT, b"HTTP/1.1 304 No\r\n\r\n", b"HTTP/1.1 202 A\r\ncontent-length: 0\r\n\r\n"],
)
async def test_the_end_of_a_connection_is_no_answer_to_its_second_request(first: bytes) -> None:
    async with scripted(first, b"") as server, connections() as client:
        await posted(client, f"http://{server.host}/")
        server.hangs_up = True
        with pytest.raises(BadAnswer, match="before its answer was complete"):
            await posted(client, f"http://{server.host}/")
    assert [len(each) for each in server.requests] == [2]


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_an_interim_answer_is_never_the_answer(status: int) -> None:
    interim = b"HTTP/1.1 %d Interim\r\nlink: a\r\n\r\n" % status
    async with scripted(interim, hangs_up=True) as server, connections() as client:
        with pytest.raises(BadAnswer, match="before its answer was complete"):
            await posted(client, f"http://{server.host}/")


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b""])
async def test_a_connection_with_something_unread_gets_no_request(unasked: bytes) -> None:
    async def served() -> tuple[socket.socket, Answer]:
        posting = asyncio.ensure_future(posted(client, url))
        connection, _ = await asyncio.to_thread(listening.accept)
        await asyncio.to_thread(connection.recv, 2**16)
        connection.sendall(NO_CONTENT)
        return connection, await posting

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        async with connections() as client:
            first, _ = await served()
            first.sendall(unasked)  # the event loop has no time to read it
            first.shutdown(socket.SHUT_WR)
            second, answer = await served()
            assert answer.status == 204
            first.close()
            second.close()


async def test_trailers_are_bounded_and_are_no_headers() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    endless = chunked + b"x: " + b"v" * 2 * HEAD_BYTES
    async with scripted(chunked + b"ce-id: 1\r\n\r\n", endless) as server, connections() as client:
        answer = await posted(client, f"http://{server.host}/")
        assert (answer.headers, answer.body) == ([("transfer-encoding", "chunked")], b"a")
        with pytest.raises(BadAnswer, match="trailers are larger"):
            await posted(client, f"http://{server.host}/")


async def test_a_body_in_tiny_chunks_is_read_in_the_time_of_its_size() -> None:
    size = 200_000
    answer = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * size
        + b"0\r\n\r\n"
    )
    async with scripted(answer) as server, connections() as client:
        assert len((await posted(client, f"http://{server.host}/", limit=size)).body) == size


async def test_a_caller_that_gives_up_as_the_connection_is_made_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(self: _Connection, transport: asyncio.Transport) -> None:
        was_made(self, transport)
        posting.cancel()

    was_made = _Connection.connection_made
    monkeypatch.setattr(_Connection, "connection_made", made)
    async with scripted() as server, connections() as client:
        posting = asyncio.ensure_future(posted(client, f"http://{server.host}/"))
        with pytest.raises(asyncio.CancelledError):
            await posting
        assert not client._open
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_connection_that_is_not_used_is_closed() -> None:
    async with scripted(NO_CONTENT) as server, connections(keep_s=0.01) as client:
        await posted(client, f"http://{server.host}/")
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_caller_that_gives_up_closes_its_connection() -> None:
    async with scripted(b"HTTP/1.1 ") as server, connections() as client:
        posting = asyncio.ensure_future(posted(client, f"http://{server.host}/"))
        while not server.requests or not server.requests[0]:
            await asyncio.sleep(0)
        posting.cancel()
        async with asyncio.timeout(5):
            await server.closed.wait()


async def test_a_host_is_looked_up_once_for_all_who_ask_and_for_none_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        asked.append(1)
        await answered.wait()
        raise socket.gaierror("no such host")

    asked: list[int] = []
    answered = asyncio.Event()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with connections() as client:
        posting = [asyncio.ensure_future(posted(client, "http://a.test/")) for _ in range(3)]
        while not asked:
            await asyncio.sleep(0)
        posting[0].cancel()  # the others go on
        with pytest.raises(asyncio.CancelledError):
            await posting[0]
        answered.set()
        found = await asyncio.gather(*posting[1:], return_exceptions=True)
        assert [type(each) for each in found] == [socket.gaierror] * 2
        assert (len(asked), client._lookups) == (1, {})


async def test_nobody_listens() -> None:
    async with scripted() as server:
        pass
    async with connections() as client:
        with pytest.raises(OSError):
            await posted(client, f"http://{server.host}/")


async def test_what_is_no_answer_is_named() -> None:
    async with scripted(b"SSH-2.0\r\n") as server, connections() as client:
        with pytest.raises(BadAnswer, match=r"\w"):
            await posted(client, f"http://{server.host}/")
