"""A plane that does not come up leaves nothing behind."""

import asyncio
import stat
import sys
import threading
from pathlib import Path

import psutil
import pytest

from relume.config import Broker, Plan
from relume.plane import local as plane_module
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.models.store import ModelStore

# Never listens, and takes its time to end.
_SLOW = """\
#!{python}
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), exit()))
pathlib.Path({started!r}).touch()
time.sleep(60)
"""


@pytest.fixture
def plane(tmp_path: Path) -> LocalPlane:
    settings = PlaneSettings(tmp_path / "state", port=0, broker_port=0, template=False)
    return LocalPlane(
        Plan(brokers=(Broker("default", "b"),)), settings, ModelStore(tmp_path / "models")
    )


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def others() -> set[psutil.Process]:
    """What other tests of this run have started and share."""
    return children()


async def test_an_import_that_fails_takes_nats_server_along(
    plane: LocalPlane, others: set[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ImportError("no such wheel")

    monkeypatch.setattr(plane_module, "_import_the_servers", fail)
    with pytest.raises(ExceptionGroup) as failed:
        async with plane.running():
            pass
    assert failed.group_contains(ImportError, match="no such wheel")
    assert children() <= others


async def test_a_signal_during_the_start_waits_for_the_end_of_nats_server(
    plane: LocalPlane, others: set[psutil.Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, started = tmp_path / "slow-nats-server", tmp_path / "started"
    slow.write_text(_SLOW.format(python=sys.executable, started=str(started)))
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("relume.eventing.jetstream.server.find_binary", lambda: slow)
    imported = threading.Event()
    monkeypatch.setattr(plane_module, "_import_the_servers", lambda: imported.wait(60))
    starting = asyncio.create_task(_run(plane))
    while not started.exists():
        await asyncio.sleep(0.01)
    starting.cancel()
    await asyncio.wait([starting])
    imported.set()
    assert starting.cancelled()
    assert children() <= others


async def _run(plane: LocalPlane) -> None:
    async with plane.running():
        pass
