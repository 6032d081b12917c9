"""A request body on its way: read ahead a little, kept whole only on demand."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from relume.base.testing import settle
from relume.serving.body import RequestBody
from relume.serving.errors import RequestTooLarge
from relume.serving.read_ahead import LEAST_BYTES, ReadAhead


class Client:
    """Sends a body in pieces and counts how many were taken."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.taken = 0
        self.left = False

    async def receive(self) -> dict[str, Any]:
        if not self._pieces:
            await asyncio.sleep(0)
            return {"type": "http.disconnect"}
        self.taken += 1
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}

    def leave(self) -> None:
        self.left = True


def body_of(client: Client, high_water: int = 100) -> tuple[RequestBody, asyncio.Task[None]]:
    body = RequestBody(client.receive, high_water, client.leave)
    return body, asyncio.create_task(body.pump())


async def test_a_body_that_arrived_is_whole() -> None:
    body, pump = body_of(Client(b"one", b"two"))
    assert body.whole() is None
    await pump
    assert body.whole() == b"onetwo"


async def test_reading_ahead_stops_at_the_mark_and_goes_on_when_something_is_taken() -> None:
    client = Client(*[b"x" * 60] * 5)
    body, pump = body_of(client)
    await settle()
    assert client.taken == 2
    chunks = body.chunks()
    await anext(chunks)
    await settle()
    assert client.taken == 3
    assert sum([len(chunk) async for chunk in chunks]) == 240
    await pump


def test_the_more_requests_are_under_way_the_less_each_reads_ahead() -> None:
    each = 4 * 2**20
    ahead = ReadAhead(each)
    with ExitStack() as under_way:
        shares = [under_way.enter_context(ahead.share()) for _ in range(10_000)]
    assert shares[0] == shares[63] == each
    assert shares[-1] == LEAST_BYTES
    assert sum(shares[:1000]) <= 2**30
    assert sum(shares) <= 1.7 * 2**30
    with ahead.share() as again:
        assert again == each


async def test_a_client_that_goes_away_after_its_body_is_noticed() -> None:
    client = Client(b"all")
    _, pump = body_of(client)
    await pump
    assert client.left


async def test_a_gathered_body_can_be_read_again() -> None:
    body, pump = body_of(Client(b"a" * 90, b"b" * 90))
    assert await body.gather(1000) == b"a" * 90 + b"b" * 90
    assert body.whole() == b"a" * 90 + b"b" * 90
    await pump


async def test_a_body_above_the_limit_is_not_gathered() -> None:
    body, pump = body_of(Client(b"a" * 90, b"b" * 90))
    with pytest.raises(RequestTooLarge):
        await body.gather(100)
    pump.cancel()
