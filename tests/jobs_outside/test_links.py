"""A link passes on, holds back and refuses as it is told; the trial of partitions relies on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.jobs_outside.links import Link
from tests.ports import own_port

WITHIN_S = 5.0
SILENT_S = 0.05
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[Link]:
    """A link to a server that sends back every line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    link = Link(own_port(), server.sockets[0].getsockname()[1])
    await link.heal()
    yield link
    await link.cut()
    server.close()


async def connected(link: Link) -> Pair:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def line(pair: Pair, within_s: float = WITHIN_S) -> bytes:
    async with asyncio.timeout(within_s):
        return await pair[0].readline()


async def test_what_is_sent_comes_back() -> None:
    async with echo() as link:
        pair = await connected(link)
        pair[1].write(b"one\n")
        assert await line(pair) == b"one\n"
        assert link.connections == 1
        pair[1].close()


@pytest.mark.parametrize("directions", [("there",), ("back",), ("there", "back")])
async def test_what_was_held_back_comes_when_the_link_is_whole(directions: tuple[str, ...]) -> None:
    async with echo() as link:
        pair = await connected(link)
        link.stall(*directions)  # type: ignore[arg-type]
        pair[1].write(b"late\n")
        with pytest.raises(TimeoutError):
            await line(pair, SILENT_S)
        await link.heal()
        assert await line(pair) == b"late\n"
        pair[1].close()


async def test_a_cut_link_resets_and_refuses_until_it_is_whole() -> None:
    async with echo() as link:
        pair = await connected(link)
        pair[1].write(b"one\n")
        await line(pair)
        await link.cut()
        with suppress(ConnectionResetError):
            assert await line(pair) == b""
        with pytest.raises(ConnectionRefusedError):
            await connected(link)
        await link.heal()
        pair = await connected(link)
        pair[1].write(b"two\n")
        assert await line(pair) == b"two\n"
        pair[1].close()
