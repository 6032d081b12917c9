"""Gateways beside a NATS cluster, with a scripted predictor and a sink: a process each."""

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import nats.errors
import nats.js.errors

from tests.jobs_outside.checker import Accepted, Books, Checker, keep_history, sse
from tests.jobs_outside.client import Client
from tests.jobs_outside.links import Link
from tests.jobs_outside.nats_cluster import NatsCluster
from tests.jobs_outside.programs import Program, gateway, sink, stub_predictor
from tests.jobs_outside.unrest import unrest
from tests.ports import own_port

ERRORS = (httpx.HTTPError, nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)
_REST_WITHIN_S = 120.0
_LOOK_S = 0.2


class Scene:
    """All processes of one trial."""

    def __init__(self, folder: Path, cluster: NatsCluster, count: int) -> None:
        self.folder = folder
        self.cluster = cluster
        self.predictor = stub_predictor(folder)
        self.sink = sink(folder)
        replicas = 3 if len(cluster.nodes) > 1 else 1
        self.replicas = replicas
        #: By the numbers of gateway and node; empty where the nodes are not linked either.
        self.links: dict[tuple[int, int], Link] = {}
        if cluster.links:
            for pair in itertools.product(range(count), range(len(cluster.nodes))):
                self.links[pair] = Link(own_port(), cluster.nodes[pair[1]].port)
        self.gateways = [
            gateway(folder, f"g{n}", self._ways(n), self.predictor.url, self.sink.url, replicas)
            for n in range(count)
        ]

    def _ways(self, number: int) -> Sequence[str]:
        """The URLs by which a gateway reaches nats-server."""
        ways = [link.url for (own, _), link in self.links.items() if own == number]
        return ways or self.cluster.urls

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self.gateways]

    @property
    def programs(self) -> Sequence[Program]:
        return [self.predictor, self.sink, *self.gateways]

    async def start(self) -> None:
        """Start all of it; returns when everything answers."""
        for link in self.links.values():
            await link.heal()
        for program in self.programs:
            program.start()
        for program in self.programs:
            await program.ready()
        await self.keep_history()

    async def keep_history(self) -> None:
        """Have every version of every record kept from here on."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(*ERRORS):
                    async with self.cluster.client() as client:
                        return await keep_history(client, self.replicas)
                await asyncio.sleep(_LOOK_S)

    def client(self) -> Client:
        return Client(self.urls, self.folder / "accepted.jsonl")

    async def rest(self, client: Client) -> Books:
        """The books when every job is settled and its events are out, or when time is up."""
        books = Books()
        checker = Checker(client.next(), self.cluster.urls, {})
        now = asyncio.get_running_loop().time
        give_up = now() + _REST_WITHIN_S
        # nats-py may take the end of the time for an end of its own: so it is looked at as well.
        while not books.at_rest and now() < give_up:
            with contextlib.suppress(*ERRORS):
                async with asyncio.timeout_at(give_up):
                    accepted = list(Accepted.read(client.journal))
                    books = await checker.examine(accepted, self.folder / "events.jsonl")
            await asyncio.sleep(_LOOK_S)
        if not books.at_rest:
            left = await unrest(self.cluster.urls, Accepted.read(client.journal))
            books.unrest = f"the client's last request: {client.last}\n{left}"
        return books

    async def end(self) -> None:
        for program in self.programs:
            program.send(signal.SIGCONT)
            program.kill()
        for link in self.links.values():
            await link.cut()


@asynccontextmanager
async def scene(
    folder: Path, *, nodes: int = 3, gateways: int = 2, linked: bool = False
) -> AsyncIterator[Scene]:
    """Everything, from its start to its end. `linked`: see `NatsCluster`; gateways are, too."""
    async with NatsCluster(folder, nodes, linked=linked) as cluster:
        made = Scene(folder, cluster, gateways)
        try:
            await made.start()
            yield made
        finally:
            await made.end()


class Reader:
    """Reads the stream of a job, and attaches again where it broke off."""

    def __init__(self, http: httpx.AsyncClient, job: str) -> None:
        self.job = job
        self.told: list[tuple[str, str, str]] = []
        self.attached = 0
        self.is_attached = False
        self._http = http

    @property
    def last(self) -> str:
        """The last position that was read."""
        return self.told[-1][0] if self.told else "0"

    @property
    def ended(self) -> bool:
        return bool(self.told) and self.told[-1][1] not in ("message", "restarted")

    async def read(self, gateway_url: str, leave_after: int | None = None) -> None:
        """Read until the end, or until the connection breaks, or until so many parts were read."""
        self.attached += 1
        text = ""
        with contextlib.suppress(httpx.HTTPError):
            async with self._http.stream(
                "GET",
                f"{gateway_url}/v1/jobs/{self.job}/events",
                headers={"Last-Event-ID": self.last},
                timeout=30,
            ) as answer:
                if answer.status_code != 200:
                    return
                self.is_attached = True
                async for part in answer.aiter_text():
                    whole, _, text = (text + part).rpartition("\n\n")
                    self.told += sse(whole)
                    if leave_after is not None and len(self.told) >= leave_after:
                        # More may have come in one piece: who has left has not seen it.
                        del self.told[leave_after:]
                        return
