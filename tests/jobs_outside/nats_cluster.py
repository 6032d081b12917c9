"""A cluster of real nats-server processes on loopback, each of which can be stopped and killed.

This shares no code with relume but the search for the binary.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
from nats.aio.client import Client

from relume.base.parent import die_with_parent
from relume.eventing.jetstream.server import find_binary
from tests.jobs_outside.links import Link
from tests.ports import own_port

_READY_WITHIN_S = 60.0
_LOOK_S = 0.05
_PEER_WITHIN_S = 2.0
_CONFIG = """\
server_name: n{number}
listen: "127.0.0.1:{port}"
max_payload: 8388608
jetstream {{
  store_dir: "{store}"
  sync_interval: 100ms
  max_file_store: 4294967296
  max_memory_store: 0
}}
"""
_CLUSTER = """cluster {{
  name: trial
  listen: "127.0.0.1:{route}"
  no_advertise: true
  routes: [{routes}]
{advertise}}}
"""
# Nobody listens there. A node tells others where it is reached, and they would go around a link.
_NOWHERE = '  advertise: "127.0.0.1:1"\n'


@dataclass(slots=True)
class Node:
    """One nats-server, running or not; its data stays when it is killed."""

    number: int
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process; returns before it listens."""
        with (self.folder / "nats.log").open("ab") as output:
            self.process = subprocess.Popen(
                [find_binary(), "--config", self.folder / "nats.conf"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGTERM or SIGKILL to this process alone."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, as a power cut would; returns when it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class NatsCluster:
    """An asynchronous context manager around the nodes; it is ready when JetStream answers.

    With `size` 1 it is one nats-server without a cluster. `linked`: the nodes reach each other
    through `links` only, by the numbers of who connects and of whom it connects to.
    """

    def __init__(self, folder: Path, size: int = 3, *, linked: bool = False) -> None:
        routes = [own_port() for _ in range(size)]
        self.links: dict[tuple[int, int], Link] = {}
        if linked:
            for pair in itertools.permutations(range(size), 2):
                self.links[pair] = Link(own_port(), routes[pair[1]])
        self.nodes = []
        for number in range(size):
            home = folder / f"nats{number}"
            home.mkdir(parents=True)
            node = Node(number, own_port(), home)
            ways = [self.links[pair].port for pair in self.links if pair[0] == number] or routes
            others = ", ".join(f'"nats://127.0.0.1:{each}"' for each in ways)
            text = _CONFIG.format(number=number, port=node.port, store=home / "store")
            if size > 1:
                text += _CLUSTER.format(
                    route=routes[number], routes=others, advertise=_NOWHERE if linked else ""
                )
            (home / "nats.conf").write_text(text)
            self.nodes.append(node)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def __aenter__(self) -> "NatsCluster":
        for link in self.links.values():
            await link.heal()
        for node in self.nodes:
            node.start()
        try:
            await self.ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _end(self) -> None:
        for node in self.nodes:
            node.kill()
        for link in self.links.values():
            await link.cut()

    async def ready(self) -> None:
        """Wait until JetStream answers and every node is a current peer. Raises TimeoutError."""
        async with asyncio.timeout(_READY_WITHIN_S):
            while not await self._answers():
                await asyncio.sleep(_LOOK_S)

    async def _answers(self) -> bool:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with self.client() as client:
                await client.jetstream(timeout=_PEER_WITHIN_S).account_info()
                return True
        return False

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A connection to any node that answers."""
        async with connected(self.urls) as client:
            yield client

    async def leader(self, stream: str) -> Node:
        """The node that leads a stream. Raises TimeoutError where it stays without one."""
        async with asyncio.timeout(_READY_WITHIN_S):
            while True:
                with contextlib.suppress(nats.errors.Error, OSError):
                    async with self.client() as client:
                        info = await client.jetstream(timeout=_PEER_WITHIN_S).stream_info(stream)
                        if info.cluster is not None and info.cluster.leader:
                            return self.nodes[int(info.cluster.leader.removeprefix("n"))]
                await asyncio.sleep(_LOOK_S)

    async def lead(self, streams: Iterable[str], node: Node) -> None:
        """Make this node the leader of these streams. Raises TimeoutError."""
        wanted = json.dumps({"placement": {"preferred": f"n{node.number}"}}).encode()
        async with asyncio.timeout(_READY_WITHIN_S):
            for stream in streams:
                while await self.leader(stream) != node:
                    with contextlib.suppress(nats.errors.Error, OSError):
                        async with self.client() as client:
                            api = f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}"
                            await client.request(api, wanted, _PEER_WITHIN_S)
                    await asyncio.sleep(_LOOK_S)

    async def in_step(self, streams: Iterable[str]) -> None:
        """Wait until every replica of these streams has all of it. Raises TimeoutError."""
        async with asyncio.timeout(_READY_WITHIN_S):
            for stream in streams:
                while not await self._is_in_step(stream):
                    await asyncio.sleep(_LOOK_S)

    async def _is_in_step(self, stream: str) -> bool:
        with contextlib.suppress(nats.errors.Error, OSError):
            async with self.client() as client:
                info = await client.jetstream(timeout=_PEER_WITHIN_S).stream_info(stream)
                replicas = (info.cluster.replicas if info.cluster else None) or []
                return all(each.current and not each.offline for each in replicas)
        return False


@contextlib.asynccontextmanager
async def connected(urls: list[str]) -> AsyncIterator[Client]:
    """A connection of the trial's own; it tries no server twice."""

    async def ignore(_: Exception) -> None:
        """nats-py tells of each failed try; the caller tries again."""

    async with asyncio.timeout(_PEER_WITHIN_S * len(urls)):
        client = await nats.connect(
            servers=urls,
            connect_timeout=1,
            allow_reconnect=False,
            error_cb=ignore,
        )
    try:
        yield client
    finally:
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(_PEER_WITHIN_S):
                await client.close()
