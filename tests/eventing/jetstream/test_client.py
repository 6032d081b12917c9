"""The client that hands messages over at once."""

import asyncio
import logging
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.errors import BadSubjectError

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


@pytest.mark.parametrize(
    ("headers", "arrived"),
    [
        (None, None),
        ({"Nats-Msg-Id": "a/b:1"}, {"Nats-Msg-Id": "a/b:1"}),
        ({"A": "1", "B": "2"}, {"A": "1", "B": "2"}),
        ({"A": "two words", "B": "é"}, {"A": "two words", "B": "é"}),
        ({"A": "1\r\nB: 2"}, {"A": "1  B: 2"}),
    ],
)
async def test_a_message_arrives_as_it_was_published(
    tmp_path: Path, headers: dict[str, str] | None, arrived: dict[str, str] | None
) -> None:
    async def take(message: Msg) -> None:
        taken.set_result((message.subject, message.reply, message.data, message.headers))

    taken: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    async with NatsServer(tmp_path) as server, asyncio.timeout(10):
        client = DirectClient()
        await client.connect(server.url, allow_reconnect=False)
        await client.subscribe("a.*", cb=take)
        await client.publish("a.b", b"data\r\n", "reply.to", headers)
        assert await taken == ("a.b", "reply.to", b"data\r\n", arrived)
        await client.close()


@pytest.mark.parametrize("subject", ["a b", "a\r\nPUB b 0", ""])
async def test_a_subject_of_several_words_is_refused(tmp_path: Path, subject: str) -> None:
    async with NatsServer(tmp_path) as server:
        client = DirectClient()
        await client.connect(server.url, allow_reconnect=False)
        with pytest.raises(BadSubjectError):
            await client.publish(subject, b"data")
        await client.close()


async def test_what_is_published_soon_waits_for_the_next_message_and_keeps_its_place(
    tmp_path: Path,
) -> None:
    async def take(message: Msg) -> None:
        taken.append(message.data)

    taken: list[bytes] = []
    async with NatsServer(tmp_path) as server, asyncio.timeout(10):
        client = DirectClient()
        await client.connect(server.url, allow_reconnect=False)
        await client.subscribe("a", cb=take)
        client.publish_soon("a", b"1")
        await client.publish("a", b"2")
        client.publish_soon("a", b"3")
        while len(taken) < 3:
            await asyncio.sleep(0)
        await client.close()
        client.publish_soon("a", b"4")
        assert client.pending_data_size == 0
    assert taken == [b"1", b"2", b"3"]
