"""Whatever a subscriber sends, in whatever pieces, and however it ends: aiohttp agrees on it.

The server answers a first request on a connection in full. The second one gets the bytes of a case,
up to each of its bytes, and then the end of the connection. What our client makes of them is what
aiohttp makes of them, and never the first answer.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop

from relume.eventing.delivery.answer import Answer, AnswerReader, BadAnswer
from relume.eventing.delivery.connections import Connections

# Status and body; None: no complete answer.
Outcome = tuple[int, bytes] | None

CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
FIRST = [
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 299 First\r\ncontent-length: 5\r\n\r\nfirst",
    b"HTTP/1.1 299 First\r\n" + CHUNKED + b"5;a=b\r\nfirst\r\n0\r\nx: y\r\n\r\n",
]
# The first answers are 204, 304 and 299; no case has such a status and ends with the connection.
CASES = {
    "no body": b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n",
    "304 with the length of another body": b"HTTP/1.1 304 No\r\ncontent-length: 7\r\n\r\n",
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "the end of the connection": b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nabc",
    "an end that is announced": b"HTTP/1.1 503 No\r\nconnection: close\r\n\r\nabc",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    "extensions and trailers": b"HTTP/1.1 200 OK\r\n"
    + CHUNKED
    + b'2;a="b;c"\r\nab\r\n0;d\r\nce-id: 1\r\nx: y\r\n\r\n',
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 A\r\ncontent-length: 0\r\n\r\n",
    "103 twice": b"HTTP/1.1 103 E\r\nlink: a\r\n\r\n" * 2 + b"HTTP/1.1 204 No\r\n\r\n",
    "102, then until the end": b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 500 E\r\n\r\nabc",
    "closing and a length": b"HTTP/1.1 429 N\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a length and chunks": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n" + CHUNKED + b"0\r\n\r\n",
    "no chunk": b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"xyz\r\n",
}

PIECES = [
    b"",
    b"\r\n",
    b"0",
    b":",
    b" ",
    b"\n",
    b"\0",
    b"HTTP/1.1 200 OK\r\n",
    b"content-length: 1\r\n",
]


class Server(asyncio.Protocol):
    """Answers each odd request of a connection with `first`, each even one with `case`."""

    first: bytes
    case: bytes
    ending: str
    served: list[int]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.number = 0

    def data_received(self, data: bytes) -> None:
        assert data.endswith(b"\r\n\r\nbody")
        self.number += 1
        if self.number % 2:
            self.transport.write(self.first)
            return
        self.served.append(self.number)
        self.transport.write(self.case)
        if self.ending == "reset":
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.write_eof()


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Server, "127.0.0.1", 0) as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run it on the event loop that a plane has."""
    uvloop.run(asyncio.wait_for(test, 120))


def serve(first: bytes, case: bytes, ending: str = "end") -> None:
    Server.first, Server.case, Server.ending, Server.served = first, case, ending, []


async def ours(url: str) -> Outcome:
    """What our client makes of the case."""
    client = Connections(keep_s=5.0, connect_within_s=5.0)
    await client.post(url, [], b"body", lambda _: 1000)
    try:
        answer = await client.post(url, [], b"body", lambda _: 1000)
    except BadAnswer:
        return None
    finally:
        client.close()
        assert len(Server.served) == 1, "the case goes over the connection of the first answer"
    return answer.status, answer.body


async def theirs(url: str) -> Outcome:
    """What aiohttp makes of it."""
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=b"body") as response:
            await response.read()
        try:
            async with session.post(url, data=b"body") as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, OSError):
            return None


def test_a_connection_that_ends_at_any_byte_gives_what_it_gives_to_aiohttp() -> None:
    run(_a_connection_that_ends_at_any_byte_gives_what_it_gives_to_aiohttp())


async def _a_connection_that_ends_at_any_byte_gives_what_it_gives_to_aiohttp() -> None:
    async with server() as url:
        for number, case in enumerate(CASES.values()):
            for cut in range(len(case) + 1):
                first = FIRST[(number + cut) % len(FIRST)]
                serve(first, case[:cut])
                found = await ours(url)
                assert found == await theirs(url), case[:cut]


def test_a_reset_at_any_byte_is_a_failure_unless_the_answer_was_complete() -> None:
    run(_a_reset_at_any_byte_is_a_failure_unless_the_answer_was_complete())


async def _a_reset_at_any_byte_is_a_failure_unless_the_answer_was_complete() -> None:
    async with server() as url:
        for number, case in enumerate(CASES.values()):
            for cut in range(len(case) + 1):
                serve(FIRST[(number + cut) % len(FIRST)], case[:cut], "reset")
                found = await ours(url)
                assert found is None or found == read([case[:cut]], ends=False), case[:cut]


def read(parts: list[bytes], *, ends: bool) -> Outcome:
    """What a reader makes of these parts, with or without the end of the connection."""
    reader = AnswerReader(lambda _: 1000)
    try:
        for part in parts:
            reader.feed(part)
        if ends:
            reader.end()
        answer: Answer = reader.answer
    except BadAnswer:
        return None
    return answer.status, answer.body


def split(case: bytes) -> Iterator[list[bytes]]:
    yield [case[at : at + 1] for at in range(len(case))]
    for i in range(len(case)):
        for j in range(i, len(case)):
            yield [case[:i], case[i:j], case[j:]]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_however_an_answer_is_split_it_is_the_same(case: bytes) -> None:
    for ends in (False, True):
        whole = read([case], ends=ends)
        assert all(read(parts, ends=ends) == whole for parts in split(case))


def test_of_broken_answers_none_is_taken_that_aiohttp_refuses() -> None:
    run(_of_broken_answers_none_is_taken_that_aiohttp_refuses())


async def _of_broken_answers_none_is_taken_that_aiohttp_refuses() -> None:
    chance, taken = random.Random(13), 0
    async with server() as url:
        for _ in range(400):
            case = bytearray(chance.choice(list(CASES.values())))
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(case))
                case[at : at + chance.randint(0, 2)] = chance.choice(PIECES)
            serve(chance.choice(FIRST), bytes(case))
            found = await ours(url)
            if found is not None:
                serve(FIRST[0], without_rest(bytes(case)))
                assert found == await theirs(url), bytes(case)
                taken += 1
    assert 20 < taken < 380


def without_rest(case: bytes) -> bytes:
    """The bytes up to the end of the answer; aiohttp also fails for what comes behind it."""
    for cut in range(len(case)):
        if read([case[:cut]], ends=False) is not None:
            return case[:cut]
    return case
