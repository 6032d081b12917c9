"""The client that hands messages over at once."""

import asyncio
import logging
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from relume.eventing.jetstream.client import DirectClient, subscribe
from relume.eventing.jetstream.server import NatsServer


async def test_a_handler_that_fails_costs_one_message_and_not_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(subject: str, _: str, data: bytes, __: bool) -> bool:
        if data == b"bad":
            raise KeyError(subject)
        if data == b"other":
            return False
        taken.append(data)
        return True

    async def other(message: Msg) -> None:
        taken.append(b"the " + message.data)

    taken: list[bytes] = []
    async with NatsServer(tmp_path) as server:
        client = DirectClient()
        await client.connect(server.url, allow_reconnect=False)
        await subscribe(client, "a.*", handle, other)
        with caplog.at_level(logging.ERROR):
            for data in (b"first", b"bad", b"second", b"other"):
                client.publish_soon("a.b", data)
            async with asyncio.timeout(10):
                while len(taken) < 3:
                    await asyncio.sleep(0)
        assert client.is_connected
        await client.close()
    assert taken == [b"first", b"second", b"the other"]
    assert "could not be handled" in caplog.text
