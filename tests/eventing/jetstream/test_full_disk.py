"""A disk that is full: nothing accepted is lost, nothing hangs, and it goes on by itself."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import DiskFull, StoreUnavailable
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import Disk, NatsServer
from relume.eventing.settings import MIB, EventingSettings
from tests.eventing.stage import BROKER, event

SIZE = 32 * MIB
DATA = bytes(100_000)


def envelope(number: int) -> Envelope:
    return Envelope(event(str(number), DATA))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(mounted)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


@pytest.fixture
async def server(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    monkeypatch.setattr("relume.eventing.jetstream.server._LOOK_AT_DISK_S", 0.05)
    disk = Disk(small_disk, reserve_bytes=4 * MIB)
    async with NatsServer(small_disk, disk=disk) as server:
        yield server


@pytest.fixture
async def log(server: NatsServer) -> AsyncIterator[JetStreamLog]:
    clock = SystemClock()
    log = await JetStreamLog.connect(server.url, EventingSettings(), clock, server.disk)
    await log.open_broker(BROKER, ["t"])
    yield log
    await log.close()


async def take_all(log: JetStreamLog, count: int) -> list[str]:
    """The ids of `count` events, each settled."""
    ids: list[str] = []
    cursor = log.cursor(BROKER, "t")
    async with asyncio.timeout(60):
        while len(ids) < count:
            for held in await cursor.fetch(10):
                ids.append(Envelope.unpack(held.payload).event.id)
                await held.settle()
        await cursor.confirm()
    return ids


async def fill(log: JetStreamLog) -> int:
    """How many events were accepted before the disk was full."""
    for number in range(SIZE // len(DATA) + 1):
        try:
            await log.admit(BROKER)
        except DiskFull:
            return number
        await log.append(BROKER, envelope(number), 5.0)
    raise AssertionError("the disk never became full")


async def test_producers_are_refused_before_the_disk_is_full_and_replies_are_not(
    log: JetStreamLog, server: NatsServer
) -> None:
    accepted = await fill(log)
    assert accepted > 100
    assert 3 * MIB < server.disk.free < 4 * MIB
    for number in range(5):  # what deliveries answer goes into the reserve
        assert await log.append(BROKER, envelope(1000 + number), 5.0)
    with pytest.raises(DiskFull):
        await log.admit(BROKER)
    ids = await take_all(log, accepted + 5)
    assert sorted(map(int, ids)) == [*range(accepted), *range(1000, 1005)]
    assert server.restarts == 0


async def test_what_was_delivered_makes_room(log: JetStreamLog) -> None:
    accepted = await fill(log)
    await take_all(log, accepted)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(DiskFull):
                await log.admit(BROKER)
                break
            await asyncio.sleep(0.1)
    assert await log.append(BROKER, envelope(accepted), 5.0)
    assert await take_all(log, 1) == [str(accepted)]


async def test_the_store_stops_before_the_disk_does(log: JetStreamLog, server: NatsServer) -> None:
    stored = await fill(log)
    with pytest.raises(DiskFull, match="store of nats-server is full"):
        while stored * len(DATA) < SIZE:
            await log.append(BROKER, envelope(stored), 5.0)
            stored += 1
    assert not server.disk.exhausted
    assert len(set(await take_all(log, stored))) == stored


async def test_a_disk_that_somebody_else_fills_is_survived(
    log: JetStreamLog, server: NatsServer, small_disk: Path
) -> None:
    for number in range(20):
        await log.append(BROKER, envelope(number), 5.0)
    with contextlib.suppress(OSError), (small_disk / "other").open("wb", buffering=0) as other:
        while other.write(bytes(MIB)):
            pass
    with pytest.raises(DiskFull):
        await log.admit(BROKER)
    with pytest.raises(StoreUnavailable):
        for number in range(20, 400):
            await log.append(BROKER, envelope(number), 0.5)
    waiting = asyncio.create_task(log.append(BROKER, envelope(1000), float("inf")))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    (small_disk / "other").unlink()
    async with asyncio.timeout(60):
        assert await waiting
    assert server.restarts == 1
    await log.admit(BROKER)
    ids = await take_all(log, 21)
    assert {*map(str, range(20)), "1000"} <= set(ids)
