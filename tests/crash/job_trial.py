"""One trial of jobs: they come in, harm is done once, and the books are checked from outside.

Gateway, predictor, sink and nats-server are processes of their own; who was killed is started
again, as a service manager does.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import httpx
import nats.errors
import nats.js.errors

from tests.crash.await_points import Trap
from tests.crash.job_processes import (
    GatewayArguments,
    JobVictim,
    start_gateway,
    start_predictor,
    start_sink,
)
from tests.jobs_outside.checker import (
    Accepted,
    Books,
    Checker,
    faults_of_stream,
    keep_history,
    sse,
)
from tests.jobs_outside.client import Client
from tests.jobs_outside.nats_cluster import NatsCluster, connected
from tests.jobs_outside.script import Script
from tests.jobs_outside.unrest import unrest
from tests.ports import own_port

JOB_SCENARIOS = ("answers", "hands", "limits", "stop", "outage")
_WITHIN_S = 300.0
_POLL_S = 0.02
# How long a fault lasts that goes away by itself: longer than a lease.
_FAULT_S = 0.8
_ERRORS = (httpx.HTTPError, nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError)


class JobTrial:
    """`scenario` is one of JOB_SCENARIOS. With a trap, its victim is harmed there."""

    def __init__(
        self, folder: Path, scenario: str, trap: Trap | None = None, victim: JobVictim = "gateway"
    ) -> None:
        self._folder = folder
        self._scenario = scenario
        self._trap = trap
        self._victim: JobVictim = victim
        self._ports = {name: own_port() for name in ("gateway", "predictor", "sink")}
        self._cluster = NatsCluster(folder, size=1)
        self._gateway: ForkServerProcess | None = None
        self._predictor: ForkServerProcess | None = None
        self._sink: ForkServerProcess | None = None
        self._mended = False
        self._stopping = False
        self._over = False
        self.books = Books()
        self.wrong: list[str] = []

    @property
    def fired(self) -> bool:
        """Whether the trap was reached."""
        return (self._folder / "fired").exists()

    @property
    def accepted(self) -> list[Accepted]:
        return list(Accepted.read(self._folder / "accepted.jsonl"))

    def last_words(self) -> str:
        """What the gateways said at their end."""
        log = self._folder / "gateway.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def reached(self) -> Counter[str]:
        """How often each point was reached, by the gateways that ended in order."""
        total = Counter[str]()
        for file in self._folder.glob("reached.*"):
            total.update(json.loads(file.read_bytes()))
        return total

    async def run(self) -> Books:
        """Play the scenario to its end; raises TimeoutError when the jobs do not come to rest."""
        node = self._cluster.nodes[0]
        try:
            self._start_nats()
            self._keep_running(self._trap)
            async with Client([self._url("gateway")], self._folder / "accepted.jsonl") as client:
                try:
                    await self._played(client)
                except TimeoutError:
                    left = await unrest(self._cluster.urls, self.accepted)
                    self.books.unrest = f"the client's last request: {client.last}\n{left}"
                    raise
            return self.books
        finally:
            node.send(signal.SIGCONT)
            node.kill()
            for process in (self._gateway, self._predictor, self._sink):
                if process is not None:
                    process.kill()
                    process.join()

    async def _played(self, client: Client) -> None:
        async with asyncio.timeout(_WITHIN_S), asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            try:
                await self._play(client)
            finally:
                self._over = True
                watch.cancel()

    async def _play(self, client: Client) -> None:
        match self._scenario:
            case "answers":
                await self._answers(client)
            case "hands":
                await self._hands(client)
            case "limits":
                await self._limits(client)
            case "stop":
                await asyncio.gather(*(client.submit(Script(f"s{n}", 6, 20)) for n in range(3)))
                await self._stop_gateway()
                self._stopping = False
            case "outage":
                await client.submit(Script("o1", 20, 10))
                self._cluster.nodes[0].kill()
                await asyncio.sleep(0.2)
                self._start_nats()
                await client.submit(Script("o2"))
        await self._rest(client)
        await self._stop_gateway(last=True)

    async def _answers(self, client: Client) -> None:
        """Every way in which a predictor answers, or does not."""
        low = {"Relume-Priority": "low"}
        structured = {"response_format": {"type": "json_object"}}
        jobs = asyncio.gather(
            client.submit(Script("a1", 6, 3)),
            client.submit(Script("a2", 6, 3, die=3)),
            client.submit(Script("a3", 4, 2), chat=False, headers=low),
            client.submit(Script("a4", 6, 3, die=2), chat=False),
            client.submit(Script("a5", 3), stream=False),
            client.submit(Script("a6", 5, 2, die=2), response_format=structured),
            client.submit(Script("a7", busy=1)),
            client.submit(Script("a8", status=400), ends=("failed",)),
            client.send(Script("e1", 3)),
            client.send(Script("e2", 3, die=1)),
            client.send(Script("e3", status=400), ends=("failed", "completed", "dead")),
            client.send(Script("e1", 3)),
        )
        await jobs
        await asyncio.gather(self._follow(client, "a1"), self._follow(client, "a2"))

    async def _hands(self, client: Client) -> None:
        """What people do with jobs: cancel, retry, delete, pause, list, wait."""
        ends = ("cancelled", "completed")
        await client.ask("POST", "/v1/queues/default/stub/pause")
        waits = await client.submit(Script("h1"), ends=ends)
        await client.submit(Script("h2", 4))
        await client.ask("POST", f"/v1/jobs/{waits}/cancel")
        await client.ask("POST", "/v1/queues/default/stub/resume")
        runs = await client.submit(Script("h3", 200, 10), ends=ends)
        fails = await client.submit(Script("h4", status=400), ends=("failed",))
        await client.ask("GET", f"/v1/jobs/{runs}")
        await client.ask("POST", f"/v1/jobs/{runs}/cancel")
        await client.settled(fails)
        await client.ask("POST", f"/v1/jobs/{fails}/retry")
        await client.settled(await client.submit(Script("h2", 4)))
        await client.ask("GET", "/v1/jobs?status=completed&limit=2")
        await client.ask("GET", "/v1/queues")
        gone = await client.submit(Script("h5", 2))
        await client.settled(gone)
        deleted = await client.ask("DELETE", f"/v1/jobs/{gone}")
        if deleted.status_code in (204, 404, 410):
            client.note(id=gone, deleted=True)

    async def _limits(self, client: Client) -> None:
        """Clocks that run out, attempts that are used up, payloads that are too large."""
        many = 40_000  # bytes, above what lies in a message
        wide = {"padding": "x" * many}
        late = ("expired", "completed", "dead")
        await asyncio.gather(
            client.submit(Script("l1", 3), **wide),
            client.submit(Script("l2", 400, 10), ends=late, headers={"Relume-Run-Timeout": "1s"}),
            client.submit(
                Script("l3", start=3000), ends=late, headers={"Relume-Start-Timeout": "1s"}
            ),
            client.submit(Script("l4", 2000)),
            client.submit(
                Script("l5", status=500), ends=("dead",), headers={"Relume-Max-Attempts": "2"}
            ),
        )

    async def _follow(self, client: Client, name: str) -> None:
        """Read a stream to its end, going on where it breaks off, as a browser does."""
        job, script = client.accepted[name], Script(name, 6, 3, die=3 if name == "a2" else -1)
        told: list[tuple[str, str, str]] = []
        while not told or told[-1][1] == "message":
            last = told[-1][0] if told else "0"
            text = ""
            with contextlib.suppress(httpx.HTTPError):
                async with client.http.stream(
                    "GET", f"{client.next()}/v1/jobs/{job}/events", headers={"Last-Event-ID": last}
                ) as answer:
                    async for part in answer.aiter_text():
                        text += part
            told += sse(text.rpartition("\n\n")[0])
            await asyncio.sleep(_POLL_S)
        if words := faults_of_stream(told, script.text(), "completed"):
            self.wrong.append(f"{job}, followed: {words}")

    async def _rest(self, client: Client) -> None:
        """Until every job has settled and its events are out; the books are as of then."""
        checker = Checker(self._url("gateway"), self._cluster.urls, {})
        while True:
            with contextlib.suppress(*_ERRORS):
                for job in self.accepted:
                    if not job.deleted:
                        await client.settled(job.id)
                self.books = await checker.examine(self.accepted, self._folder / "events.jsonl")
                self.books.wrong += self.wrong
                if self.books.at_rest:
                    return
            await asyncio.sleep(5 * _POLL_S)

    async def _watch(self) -> None:
        """Start again who was killed, and end the fault that the trap has begun."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_history())
            while not self._over:
                if not self._stopping:
                    self._keep_running(None)
                if self.fired and not self._mended:
                    self._mended = True
                    group.create_task(self._mend())
                await asyncio.sleep(_POLL_S)

    async def _mend(self) -> None:
        node = self._cluster.nodes[0]
        if self._victim in ("partition", "disk"):
            await asyncio.sleep(_FAULT_S)
            node.send(signal.SIGCONT)
        if self._victim in ("disk", "nats-server"):
            node.kill()
            self._start_nats()

    async def _keep_history(self) -> None:
        """Tell the streams to keep every version of a record, whenever a gateway has made them."""
        while not self._over:  # nats-py may take a cancellation for an end of its own
            with contextlib.suppress(*_ERRORS):
                async with connected(self._cluster.urls) as client:
                    while not self._over:
                        await keep_history(client)
                        await asyncio.sleep(5 * _POLL_S)
            await asyncio.sleep(_POLL_S)

    def _keep_running(self, trap: Trap | None) -> None:
        if self._predictor is None or not self._predictor.is_alive():
            self._predictor = start_predictor(self._folder, self._ports["predictor"])
            (self._folder / "predictor.pid").write_text(str(self._predictor.pid))
        if self._sink is None or not self._sink.is_alive():
            self._sink = start_sink(self._folder, self._ports["sink"])
        if self._gateway is None or not self._gateway.is_alive():
            arguments = GatewayArguments(
                self._folder,
                self._ports["gateway"],
                self._cluster.urls[0],
                self._url("predictor"),
                self._url("sink"),
                trap,
                self._victim,
            )
            self._gateway = start_gateway(arguments)

    async def _stop_gateway(self, last: bool = False) -> None:
        """SIGTERM, and the end of that process; `last`: of one that ends in order."""
        self._stopping = True
        while True:
            process = self._gateway
            assert process is not None
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
            while process.is_alive():
                await asyncio.sleep(_POLL_S)
            if process.exitcode == 0 or not last:
                return
            self._keep_running(None)
            await asyncio.sleep(1.0)

    def _start_nats(self) -> None:
        node = self._cluster.nodes[0]
        node.start()
        if node.process is not None:
            (self._folder / "nats.pid").write_text(str(node.process.pid))

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"


@dataclass(slots=True)
class JobTally:
    """The sum of many trials."""

    points: set[str] = field(default_factory=set)
    victims: Counter[str] = field(default_factory=Counter)
    untried: list[str] = field(default_factory=list)
    tried: int = 0
    unfired: int = 0
    lost: int = 0
    settled_twice: int = 0
    replied_twice: int = 0
    usage_twice: int = 0
    sent_again: int = 0

    def add(self, trap: Trap, victim: str, fired: bool, books: Books) -> None:
        self.points.add(trap.point)
        self.victims[victim] += 1
        self.tried += 1
        self.unfired += not fired
        self.lost += len(books.lost)
        self.settled_twice += len(books.settled_twice)
        self.replied_twice += len(books.replied_twice)
        self.usage_twice += len(books.usage_twice)
        self.sent_again += books.sent_again

    def __str__(self) -> str:
        harmed = ", ".join(f"{name} {count}" for name, count in self.victims.items())
        return (
            f"jobs: points tried: {self.tried}, at {len(self.points)} places in the code "
            f"({harmed}); {self.unfired} were not reached again; "
            f"lost: {self.lost}, settled twice: {self.settled_twice}, "
            f"replied twice: {self.replied_twice}, usage twice: {self.usage_twice}; "
            f"sent again after a fault, as at-least-once allows: {self.sent_again}\n"
            f"places of jobs that no scenario gets to: {' '.join(self.untried)}"
        )
