"""What the probe says of real nats-servers: of one, of three, and of what is not as it should."""

import asyncio
import signal
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from relume.eventing.jetstream.probe import NatsFacts, NatsUnreachable, address_of, probe
from tests.ports import own_port

from .nats_servers import NatsProcess, credentials, servers

MIB = 1 << 20
ROOM = 16 * MIB


async def facts(*urls: str, copies: int = 1, credentials: Path | None = None) -> NatsFacts:
    return await probe(urls, copies=copies, room_bytes=ROOM, credentials=credentials, within_s=3)


async def streams(url: str) -> list[str]:
    client = await nats.connect(url)
    try:
        return [one.config.name or "" for one in await client.jetstream().streams_info()]
    finally:
        await client.close()


async def clustered(servers: list[NatsProcess]) -> NatsFacts:
    """What three servers have once they have found each other."""
    async with asyncio.timeout(90):
        while True:
            found = await facts(servers[0].url, copies=3)
            if found.copies == 3:
                return found
            await asyncio.sleep(0.2)


async def test_one_server_has_one_copy(tmp_path: Path) -> None:
    async with servers(tmp_path, more="max_payload: 8MB\n") as [one]:
        found = await facts(one.url)
        assert found.version >= (2, 11, 0)
        assert (found.copies, found.room, found.why_fewer) == (1, True, "")
        assert found.without_jetstream is None and found.jobs is None
        assert found.max_message_bytes == 8 * MIB
        more = await facts(one.url, copies=3)
        assert (more.copies, more.room) == (1, True)
        assert "non-clustered" in more.why_fewer
        assert await streams(one.url) == []


async def test_three_servers_keep_three_copies_and_nothing_is_left_there(tmp_path: Path) -> None:
    async with servers(tmp_path, 3) as three:
        found = await clustered(list(three))
        assert found.room and found.why_fewer == ""
        client = await nats.connect(three[0].url)
        config = StreamConfig(name="relume_work", subjects=["relume.work.>"], num_replicas=3)
        await client.jetstream().add_stream(config)
        await client.jetstream().publish("relume.work.a", b"x" * 1000)
        await client.close()
        found = await facts(three[0].url, copies=3)
        assert found.jobs is not None
        assert (found.jobs.copies, found.jobs.away) == (3, ())
        assert found.used_bytes >= 1000
        assert await streams(three[0].url) == ["relume_work"]
        # One server stops: two keep what there is, and a third copy has no place.
        three[2].send(signal.SIGKILL)
        async with asyncio.timeout(60):
            while not (found.jobs and found.jobs.away):
                found = await facts(three[0].url, copies=3)
        assert found.jobs.away == ("n2",)


async def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    async with servers(tmp_path, store_bytes=4 * MIB) as [one]:
        found = await facts(one.url)
        assert (found.copies, found.room) == (1, False)


async def test_an_account_without_jetstream_is_told(tmp_path: Path) -> None:
    async with servers(tmp_path, jetstream=False) as [one]:
        found = await facts(one.url)
        assert found.without_jetstream is not None
        assert found.copies == 0


async def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    port = own_port()
    url = f"nats://user:hunter2@127.0.0.1:{port}"
    with pytest.raises(NatsUnreachable, match="nothing listens there") as error:
        await facts(url)
    assert f"127.0.0.1:{port}" in str(error.value)
    assert "hunter2" not in str(error.value)
    async with servers(tmp_path) as [one]:
        found = await facts(url, one.url)
        assert found.unreachable == (f"127.0.0.1:{port}",)
        assert found.address == one.url.removeprefix("nats://")


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async with servers(tmp_path) as [one]:
        one.send(signal.SIGSTOP)
        with pytest.raises(NatsUnreachable, match="no answer within 3 s"):
            await facts(one.url)


async def test_credentials_let_in_whom_a_server_would_refuse(tmp_path: Path) -> None:
    known = credentials(tmp_path)
    async with servers(tmp_path, more=known.config) as [one]:
        found = await facts(one.url, credentials=known.file)
        assert (found.copies, found.room) == (1, True)
        with pytest.raises(NatsUnreachable, match=r"(?i)authorization"):
            await facts(one.url)
        missing = tmp_path / "missing.creds"
        with pytest.raises(NatsUnreachable, match=r"missing\.creds"):
            await facts(one.url, credentials=missing)
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(NatsUnreachable, match=r"(?i)authorization"):
            await facts(one.url, credentials=credentials(other).file)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("nats://u:p@h:1", "h:1"),
        ("tls://token@h:1", "h:1"),
        ("h:1", "h:1"),
        ("u:p@[::1]:1", "[::1]:1"),
    ],
)
def test_an_address_holds_no_credentials(url: str, address: str) -> None:
    assert address_of(url) == address
