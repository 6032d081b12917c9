"""Three real nats-servers on loopback that form a JetStream cluster."""

import asyncio
import os
import secrets
import signal
import subprocess
from pathlib import Path
from typing import Self

import nats
import nats.errors

from relume.eventing.jetstream.server import find_binary
from tests.ports import own_port

_CONFIG = """\
server_name: {name}
listen: "127.0.0.1:{port}"
authorization {{ token: "{token}" }}
max_payload: 8388608
jetstream {{ store_dir: "{store}" }}
cluster {{
  name: jobs
  listen: "127.0.0.1:{route}"
  routes: [{routes}]
}}
"""


class Node:
    """One nats-server of the cluster."""

    def __init__(self, folder: Path, name: str, port: int) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        self._port = port
        self._folder = folder
        self.config = folder / f"{name}.conf"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return when it listens."""
        output = self.config.with_suffix(".log").open("ab")
        self._process = subprocess.Popen(
            [find_binary(), "--config", self.config], stdout=output, stderr=output
        )
        output.close()
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Return when all its threads stand still; until then it may go on answering."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, which)


class NatsCluster:
    """An asynchronous context manager around three nodes."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_urlsafe(16)
        ports = [own_port() for _ in range(6)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[3:])
        self.nodes = [Node(folder, f"n{n}", ports[n]) for n in range(3)]
        for n, node in enumerate(self.nodes):
            node.config.write_text(
                _CONFIG.format(
                    name=f"n{n}",
                    port=ports[n],
                    route=ports[3 + n],
                    routes=routes,
                    token=self.token,
                    store=folder / f"store{n}",
                )
            )

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(node.start() for node in self.nodes))
        await self.healthy()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    async def healthy(self) -> None:
        """Return when the cluster has a leader and every stream has all of its replicas."""
        client = await nats.connect(self.urls, token=self.token, connect_timeout=20)
        js = client.jetstream(timeout=1)
        try:
            async with asyncio.timeout(120):
                while True:
                    try:
                        infos = await js.streams_info()
                        replicas = [
                            peer
                            for info in infos
                            if info.cluster
                            for peer in info.cluster.replicas or []
                        ]
                        if all(peer.current and not peer.offline for peer in replicas):
                            return
                    except (nats.errors.Error, OSError):
                        pass
                    await asyncio.sleep(0.2)
        finally:
            await client.close()
