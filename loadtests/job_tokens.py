"""Jobs on the real model, beside the same prompts sent straight to its predictor."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
from client import Json, completion_tokens, first_token, session, together
from event_figures import Row
from job_scenes import Gateway, gateway
from processes import MeasurementFailed
from running import Steps
from servers import START_WITHIN_S, runtime, sample_workload
from throughput import prompts

from relume.eventing.jetstream.server import NatsServer

AT_ONCE = 16
Way = Callable[[list[Json]], Awaitable[float]]
Follow = Callable[[aiohttp.ClientSession, Gateway, str], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output tokens a second, repetition by repetition.

    `watched`: every token of every job is read as it comes, as a stream. `cpu_us`: microseconds of
    CPU that the gateway uses for a token of the jobs, and of those that are watched; a busy machine
    changes it much less than the rates.
    """

    direct: tuple[float, ...]
    jobs: tuple[float, ...]
    watched: tuple[float, ...]
    cpu_us: tuple[float, float]

    def rows(self) -> list[Row]:
        return [
            Row("straight to the predictor", median(self.direct), "tokens/s", digits=1),
            Row("as jobs", median(self.jobs), "tokens/s", digits=1),
            *self._ratios(self.jobs, 0.97),
            Row("  CPU of the gateway for a token", self.cpu_us[0], "µs"),
            Row("as jobs, each watched", median(self.watched), "tokens/s", digits=1),
            *self._ratios(self.watched, None),
            Row("  CPU of the gateway for a token", self.cpu_us[1], "µs"),
        ]

    def _ratios(self, rates: tuple[float, ...], target: float | None) -> list[Row]:
        ratios = [rate / direct for rate, direct in zip(rates, self.direct, strict=True)]
        return [
            Row("  of the direct rate", median(ratios), "", target, digits=3),
            Row("    least", min(ratios), "", digits=3),
            Row("    most", max(ratios), "", digits=3),
        ]


async def tokens(folder: Path, runs: int, length: int, progress: Steps) -> Tokens:
    """One predictor with the demo model; a load straight to it, then as jobs, in turn."""
    work = sample_workload()
    found: list[list[float]] = [[], [], []]
    used_s: list[list[float]] = [[], [], []]
    async with (
        session() as http,
        NatsServer(folder) as nats,
        runtime(work, folder / "runtime.log") as model,
    ):
        await first_token(http, model.url, work.service, model.server, START_WITHIN_S)
        async with gateway(folder, nats, model.url) as gate:
            ways: list[Way] = [
                lambda bodies: _direct(http, model.url, bodies, length),
                lambda bodies: _jobs(settled, http, gate, bodies, length),
                lambda bodies: _jobs(watched, http, gate, bodies, length),
            ]
            for repetition in range(runs + 1):
                progress.begin(f"{AT_ONCE} at once, {repetition} of {runs}")
                # Each goes first, in the middle and last in turn.
                for which in ((repetition + step) % len(ways) for step in range(len(ways))):
                    number = len(ways) * repetition + which
                    bodies = prompts(work.service, number, AT_ONCE, length)
                    before_s = gate.cpu_s()
                    rate = await ways[which](bodies)
                    if repetition:  # the first one is for warming up
                        found[which].append(rate)
                        used_s[which].append(gate.cpu_s() - before_s)
    each_us = [1e6 * median(used) / AT_ONCE / length for used in used_s]
    return Tokens(*map(tuple, found), cpu_us=(each_us[1], each_us[2]))


async def _direct(http: aiohttp.ClientSession, url: str, bodies: list[Json], length: int) -> float:
    streams = await together(http, url, bodies)
    _check([stream.tokens for stream in streams], length)
    seconds = max(s.ended for s in streams) - min(s.started for s in streams)
    return sum(s.tokens for s in streams) / seconds


async def _jobs(
    follow: Follow, http: aiohttp.ClientSession, gate: Gateway, bodies: list[Json], length: int
) -> float:
    started = time.monotonic()

    async def one(body: Json) -> int:
        return await follow(http, gate, await submitted(http, gate, body))

    made = await asyncio.gather(*(one(body) for body in bodies))
    seconds = time.monotonic() - started
    _check(made, length)
    return sum(made) / seconds


async def submitted(http: aiohttp.ClientSession, gate: Gateway, body: Json) -> str:
    """Submit a chat as a job; its id."""
    async with http.post(gate.chat, json=body, headers={"Prefer": "respond-async"}) as response:
        if response.status != 202:
            raise MeasurementFailed(f"a job was not accepted: {await response.text()}")
        return str(json.loads(await response.read())["id"])


async def settled(http: aiohttp.ClientSession, gate: Gateway, job: str) -> int:
    """Wait for the end of a job; the tokens that were generated."""
    while True:
        async with http.get(f"{gate.url}/v1/jobs/{job}?wait=60") as response:
            told = json.loads(await response.read())
        if told["settled_at"] is not None:
            break
    if told["status"] != "completed":
        raise MeasurementFailed(f"job {job} is {told['status']}: {told['detail']}")
    return int(told["usage"]["completion_tokens"])


async def watched(http: aiohttp.ClientSession, gate: Gateway, job: str) -> int:
    """Follow the stream of a job to its end; the tokens that were generated."""
    tail = b""
    async with http.get(f"{gate.url}/v1/jobs/{job}/events") as response:
        async for chunk in response.content.iter_any():
            tail = (tail + chunk)[-8192:]
    if b"event: completed" not in tail:
        raise MeasurementFailed(f"job {job} did not complete: {tail[-500:]!r}")
    return completion_tokens(tail)


def _check(made: list[int], length: int) -> None:
    if any(each != length for each in made):
        raise MeasurementFailed(f"the streams have {made} tokens, not {length} each")
