"""What `eventing.py` measures: a plane, a subscriber and producers, a process each."""

import asyncio
import json
import sys
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]
from event_programs import HERE
from processes import MeasurementFailed, Server, started
from servers import environment

from relume.plane.launch import HOST, free_port

START_WITHIN_S = 60.0
DRAINED_WITHIN_S = 600.0
SAMPLE_S = 1.0
_LOOK_S = 0.01

_MANIFEST = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: bench, namespace: default}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: bench, namespace: default}}
spec:
  broker: bench
  filter: {{attributes: {{type: bench.event}}}}
  subscriber: {{uri: "http://{address}/"}}
"""


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds that each process has used."""

    plane: float
    nats: float
    subscriber: float

    def since(self, before: "Cpu") -> "Cpu":
        return Cpu(
            self.plane - before.plane,
            self.nats - before.nats,
            self.subscriber - before.subscriber,
        )


class Subscriber:
    """The sink's process."""

    def __init__(self, server: Server, address: str, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.address = address
        self._http = http

    async def distinct(self) -> int:
        """How many different events came."""
        return int((await self._told())["distinct"])

    async def repeated(self) -> int:
        """How many deliveries were of an event that had come before."""
        told = await self._told()
        return int(told["deliveries"] - told["distinct"])

    async def arrivals(self, first: int, count: int) -> "array[float]":
        """The moments at which these numbers came first, on the monotonic clock; 0: never."""
        found = array("d")
        found.frombytes(await self._get(f"/arrivals/{first}/{count}"))
        return found

    async def _told(self) -> Mapping[str, int]:
        told: Mapping[str, int] = json.loads(await self._get("/"))
        return told

    async def _get(self, path: str) -> bytes:
        async with self._http.get(f"http://{self.address}{path}") as response:
            return await response.read()


class EventPlane:
    """`relume up` with one Broker and one Trigger."""

    def __init__(self, server: Server, status_url: str, broker_url: str, serving_s: float) -> None:
        self.server = server
        self.broker_url = broker_url
        self.serving_s = serving_s
        self._status_url = status_url

    async def trigger(self, http: aiohttp.ClientSession) -> Mapping[str, int]:
        """`delivered`, `pending`, `in_flight`, … of the only Trigger."""
        async with http.get(self._status_url) as response:
            status = json.loads(await response.read())
        found: Mapping[str, int] = status["eventing"]["triggers"][0]
        return found

    def memory_mb(self) -> tuple[float, float]:
        """Resident MB of the plane's own processes and of nats-server."""
        plane, nats = self._processes()
        return sum(each.memory_info().rss for each in plane) / 1e6, nats.memory_info().rss / 1e6

    def cpu(self, subscriber: Subscriber) -> Cpu:
        plane, nats = self._processes()
        return Cpu(sum(map(cpu_s, plane)), cpu_s(nats), cpu_s(subscriber.server.tree()[0]))

    def _processes(self) -> tuple[list[psutil.Process], psutil.Process]:
        """All of the plane but nats-server, and nats-server."""
        tree = self.server.tree()
        nats = next(each for each in tree if "nats-server" in each.name())
        return [each for each in tree if each != nats], nats


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU time that a process has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


@asynccontextmanager
async def subscriber(folder: Path) -> AsyncIterator[Subscriber]:
    """The sink, from its first answer to its end."""
    port = free_port()
    argv = [sys.executable, str(HERE / "event_sink.py"), str(port)]
    async with (
        aiohttp.ClientSession() as http,
        started("subscriber", argv, env=environment(), log=folder / "subscriber.log") as server,
    ):
        found = Subscriber(server, f"{HOST}:{port}", http)
        await until_it_answers(server, found.distinct)
        yield found


@asynccontextmanager
async def event_plane(
    folder: Path,
    sink: Subscriber,
    *options: str,
    profile: Path | None = None,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[EventPlane]:
    """`relume up` from its start until the Broker has accepted an event.

    `python` is the interpreter of the checkout that is measured; `variables` are added to its
    environment.
    """
    manifest = folder / "bench.yaml"
    manifest.write_text(_MANIFEST.format(address=sink.address))
    http, broker = free_port(), free_port()
    how = ["-m", "cProfile", "-o", str(profile)] if profile else []
    argv = [python, *how, "-m", "relume.cli.main", "up", str(manifest), "--no-template"]
    argv += ["--state", str(folder / "state"), "--port", str(http), "--broker-port", str(broker)]
    url = f"http://{HOST}:{broker}/default/bench"
    env = {**environment(), **(variables or {})}
    async with (
        started("relume up", [*argv, *options], env=env, log=folder / "up.log") as server,
        aiohttp.ClientSession() as session,
    ):

        async def accepts() -> None:
            # Not of the type that the Trigger asks for, and the same event at every start.
            headers = {"ce-specversion": "1.0", "ce-id": "0", "ce-source": "/up", "ce-type": "up"}
            async with session.post(url, headers=headers, raise_for_status=True):
                pass

        serving = await until_it_answers(server, accepts)
        status = f"http://{HOST}:{http}/relume/status"
        yield EventPlane(server, status, url, serving - server.started)


async def until_it_answers(server: Server, ask: Callable[[], Awaitable[object]]) -> float:
    """Ask until there is an answer; the moment. Raises MeasurementFailed."""
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            await ask()
            return time.monotonic()
        except aiohttp.ClientError:
            await asyncio.sleep(_LOOK_S)
    raise MeasurementFailed(f"{server.name}: no answer within {START_WITHIN_S:g} s")


async def delivered(
    sink: Subscriber, total: int, plane: EventPlane, within_s: float = DRAINED_WITHIN_S
) -> float:
    """Wait until `total` different events came; the moment. Raises MeasurementFailed."""
    deadline = time.monotonic() + within_s
    while (came := await sink.distinct()) < total:
        plane.server.check_alive()
        if time.monotonic() > deadline:
            raise MeasurementFailed(f"{came:,} of {total:,} events were delivered")
        await asyncio.sleep(_LOOK_S)
    return time.monotonic()


def slowest(samples: Sequence[tuple[float, int]], window_s: float) -> float:
    """The lowest rate in any window of that length, of samples of (moment, count)."""
    rates = [
        (late_count - count) / (late - at)
        for i, (at, count) in enumerate(samples)
        for late, late_count in samples[i + 1 :]
        if late - at >= window_s
    ]
    return min(rates, default=0.0)
