"""What a million waiting jobs change: memory of the gateway, its rate, and how soon it is back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
from event_figures import Row
from job_load import BODY
from job_scenes import Gateway, Predictor, gateway, post_jobs, predictor
from processes import MeasurementFailed
from running import Steps

from relume.eventing.jetstream.job_filling import fill
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.job import ServiceName

STEPS = 4
FEW = 1_000
TURNS = 5
_RESTARTS = 3
_LOOK_S = 0.01
_DRAINED_WITHIN_S = 60.0
_PAUSE_SEEN_S = 1.5


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs answered in a second with few and with many waiting; MB before and after; restarts."""

    jobs: int
    filled_per_s: float
    few: tuple[float, ...]
    many: tuple[float, ...]
    memory_mb: tuple[float, float]
    serving_s: tuple[float, ...]

    def rows(self) -> list[Row]:
        ratios = [many / few for few, many in zip(self.few, self.many, strict=True)]
        before, after = self.memory_mb
        return [
            Row("put into the queue", self.filled_per_s, "jobs/s"),
            Row(f"dequeued, {FEW:,} waiting", median(self.few), "jobs/s"),
            Row(f"dequeued, {self.jobs:,} waiting", median(self.many), "jobs/s"),
            Row("  ratio", median(ratios), "", 0.9, digits=2),
            Row("    least", min(ratios), "", digits=2),
            Row("    most", max(ratios), "", digits=2),
            Row("memory of the gateway", after, "MB"),
            Row("  more than without", after - before, "MB", below=50),
            Row("a restart serves after", median(self.serving_s), "s", below=3, digits=2),
        ]


@dataclass(slots=True)
class _Side:
    """A gateway with a predictor and a nats-server of its own."""

    folder: Path
    nats: NatsServer
    model: Predictor
    gate: Gateway
    http: aiohttp.ClientSession

    async def rate(self) -> float:
        """Jobs answered in a second, while `FEW` of them are. The queue is paused before.

        The time begins with the first answer: a gateway looks once a second whether a queue is
        paused.
        """
        before = await self.model.answered()
        await self.gate.pause(self.http, False)
        first = await self._answered(before + 1)
        last = await self._answered(before + FEW)
        await self.gate.pause(self.http, True)
        return (last[1] - first[1]) / (last[0] - first[0])

    async def _answered(self, count: int) -> tuple[float, int]:
        """When so many were answered, and how many it were then. Raises MeasurementFailed."""
        deadline = time.monotonic() + _DRAINED_WITHIN_S
        while (answered := await self.model.answered()) < count:
            self.gate.server.check_alive()
            if time.monotonic() > deadline:
                raise MeasurementFailed(f"{FEW} jobs were not answered in {_DRAINED_WITHIN_S:g} s")
            await asyncio.sleep(_LOOK_S)
        return time.monotonic(), answered

    async def quiet(self) -> None:
        """Wait until the gateway has seen the pause, and what was under way then has ended."""
        await asyncio.sleep(_PAUSE_SEEN_S)
        before = -1
        while (now := await self.model.answered()) != before:
            before = now
            await asyncio.sleep(0.5)


@asynccontextmanager
async def _side(folder: Path) -> AsyncIterator[_Side]:
    async with (
        aiohttp.ClientSession() as http,
        NatsServer(folder) as nats,
        predictor(folder) as model,
        gateway(folder, nats, model.url) as gate,
    ):
        await gate.pause(http, True)
        yield _Side(folder, nats, model, gate, http)


async def backlog(folder: Path, jobs: int, progress: Steps) -> Backlog:
    """Two gateways, one with few jobs and one with many, take turns."""
    parts = [folder / "many", folder / "few"]
    for part in parts:
        part.mkdir()
    async with _side(parts[0]) as many, _side(parts[1]) as few:
        for side in (many, few):  # warm: connections, code, the lane
            await post_jobs(side.gate.chat, count=FEW)
            await side.rate()
            await side.quiet()
        before = many.gate.memory_mb()
        progress.begin(f"{jobs:,} jobs into the queue")
        started = time.monotonic()
        service = ServiceName("default", "bench")
        await fill([many.nats.url], jobs, service, "/v1/chat/completions", "anonymous", BODY)
        filled = jobs / (time.monotonic() - started)
        progress.begin(f"{TURNS} turns with {FEW:,} and with {jobs:,} waiting")
        rates: dict[int, list[float]] = {0: [], 1: []}
        for turn in range(TURNS):
            for which in (0, 1) if turn % 2 else (1, 0):
                side = (few, many)[which]
                if side is few:
                    await post_jobs(few.gate.chat, count=FEW)
                rates[which].append(await side.rate())
                await side.quiet()
        after = many.gate.memory_mb()
        progress.begin(f"{_RESTARTS} restarts")
        serving = [await _restart(many) for _ in range(_RESTARTS)]
    return Backlog(jobs, filled, tuple(rates[0]), tuple(rates[1]), (before, after), tuple(serving))


async def _restart(side: _Side) -> float:
    """Seconds from the start of one more gateway until it serves; the one before is killed."""
    await side.gate.server.kill_all()
    async with gateway(side.folder, side.nats, side.model.url) as again:
        await post_jobs(again.chat, count=1, producers=1)
        return again.serving_s
