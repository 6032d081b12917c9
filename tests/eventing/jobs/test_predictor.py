"""A connection to a predictor, and what reading its answer late leaves behind on it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from relume.eventing.jobs.predictor import Predictors

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIRST = b"data: first\n\n"
# More than the kernel keeps.
_REST = b"data: %b\n\ndata: [DONE]\n\n" % (b"x" * 20_000)


class PausesOnce:
    """A pause behind the first part, until the answer has ended."""

    def __init__(self) -> None:
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    def pause_s(self, parts: int, size: int) -> float:
        return 0.0 if self.over.is_set() else 1.0

    async def pause(self, seconds: float) -> None:
        self.begun.set()
        await self.over.wait()
        for _ in range(10):
            await asyncio.sleep(0)  # a connection that is closed has no file descriptor then


@asynccontextmanager
async def predictor(pauses: PausesOnce, closes: bool) -> AsyncIterator[str]:
    """A predictor whose answer ends in the pause; it `closes` its connection then, or keeps it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_HEAD + _chunk(_FIRST))
        await pauses.begun.wait()
        writer.write(_chunk(_REST) + b"0\r\n\r\n")
        if not closes:
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}/"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def read_with_a_pause(closes: bool) -> None:
    pauses = PausesOnce()
    async with predictor(pauses, closes) as url, Predictors() as predictors, asyncio.timeout(60):
        async with predictors.post(url, [("Connection", "close")], b"") as answer:
            connection = answer._response.connection
            transport = None if connection is None else connection.transport
            assert transport is not None
            peer = transport.get_extra_info("socket")
            answer.on_end(pauses.over.set)
            parts = [len(part) async for found in answer.parts(pauses) for part in found]
            assert parts == [5, 20_000]
            assert transport.is_closing() is closes
        if not closes:  # it serves the next request, which needs to be woken by its first byte
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_answer_that_ends_in_a_pause_is_read_and_leaves_its_connection_as_it_was(
    loop: Callable[[], asyncio.AbstractEventLoop], closes: bool
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(read_with_a_pause(closes))
