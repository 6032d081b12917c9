"""A start on what a crash has left: killed without a word, files half written."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BROKER, event

EVENTS = 50
SETTLED = 10
STREAM = Path("nats/store/jetstream/$G/streams/broker_default_b")

Damage = Callable[[Path], object]


def envelope(number: int) -> Envelope:
    return Envelope(event(str(number), bytes(500)))


@asynccontextmanager
async def opened(state: Path) -> AsyncIterator[tuple[NatsServer, JetStreamLog]]:
    async with NatsServer(state) as server:
        log = await JetStreamLog.connect(server.url, EventingSettings(), SystemClock(), server.disk)
        try:
            await log.open_broker(BROKER, ["t"])
            yield server, log
        finally:
            await log.close()


@pytest.fixture
async def crashed(tmp_path: Path) -> Path:
    """The state folder as it is at the moment of a kill: some events settled, some on lease."""
    state, copy = tmp_path / "running", tmp_path / "crashed"
    async with opened(state) as (server, log):
        await log.append_all(BROKER, [envelope(number) for number in range(EVENTS)], 5.0)
        cursor = log.cursor(BROKER, "t")
        held = list(await cursor.fetch(SETTLED))
        while len(held) < SETTLED * 2:
            held += await cursor.fetch(SETTLED)
        for each in held[:SETTLED]:
            await each.settle()
        await cursor.confirm()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        shutil.copytree(state, copy)
    return copy


def torn(name: str, cut: int) -> Damage:
    def damage(state: Path) -> None:
        file = state / STREAM / name
        file.write_bytes(file.read_bytes()[:-cut])

    return damage


def longer(name: str, tail: bytes) -> Damage:
    def damage(state: Path) -> None:
        with (state / STREAM / name).open("ab") as file:
            file.write(tail)

    return damage


def written(path: str | Path, content: bytes) -> Damage:
    def damage(state: Path) -> None:
        (state / path).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "torn_off"),
    [
        pytest.param(lambda state: None, 0, id="nothing"),
        pytest.param(torn("msgs/1.blk", 7), 1, id="the last event half written"),
        pytest.param(longer("msgs/1.blk", os.urandom(300)), 0, id="garbage after the events"),
        pytest.param(longer("msgs/1.blk", bytes(4096)), 0, id="zeros after the events"),
        pytest.param(written(STREAM / "msgs/index.db", b"junk"), 0, id="a damaged index"),
        pytest.param(written(STREAM / "msgs/2.blk.tmp", b"x"), 0, id="a file in the making"),
        pytest.param(written(STREAM / "obs/t/o.dat", b""), 0, id="an empty cursor"),
        pytest.param(written(STREAM / "obs/t/meta.inf", b""), 0, id="an empty consumer file"),
        pytest.param(written(STREAM / "meta.inf", b""), 0, id="an empty stream file"),
        pytest.param(written("nats/nats.conf", b"server_na"), 0, id="half a configuration"),
        pytest.param(written("nats/lock", b"4711"), 0, id="a stale lock"),
    ],
)
async def test_what_was_accepted_is_delivered_after_a_crash(
    crashed: Path, damage: Damage, torn_off: int
) -> None:
    damage(crashed)
    expected = {str(number) for number in range(SETTLED, EVENTS - torn_off)}
    seen: set[str] = set()
    async with opened(crashed) as (_, log):
        assert await log.append(BROKER, envelope(3), 5.0) is False
        assert await log.append(BROKER, envelope(EVENTS), 5.0) is True
        async with asyncio.timeout(60):
            while not seen >= expected | {str(EVENTS)}:
                for held in await log.cursor(BROKER, "t").fetch(EVENTS):
                    seen.add(Envelope.unpack(held.payload).event.id)
                    await held.settle()


async def test_a_damaged_cursor_is_named_with_what_to_do(crashed: Path) -> None:
    torn("obs/t/o.dat", 5)(crashed)
    with pytest.raises(StoreUnavailable, match=r"streams/broker_default_b/obs/t/o\.dat"):
        async with opened(crashed):
            pass
    (crashed / STREAM / "obs/t/o.dat").unlink()
    async with opened(crashed) as (_, log):
        assert log.cursor(BROKER, "t").waiting >= EVENTS - SETTLED
