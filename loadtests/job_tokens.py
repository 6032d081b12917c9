"""Jobs on the real model, beside the same prompts sent straight to its predictor."""

import asyncio
import json
import time
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


@dataclass(frozen=True, slots=True)
class Tokens:
    """Output tokens a second, repetition by repetition."""

    direct: tuple[float, ...]
    jobs: tuple[float, ...]

    def rows(self) -> list[Row]:
        ratios = [jobs / direct for jobs, direct in zip(self.jobs, self.direct, strict=True)]
        return [
            Row("straight to the predictor", median(self.direct), "tokens/s", digits=1),
            Row("as jobs", median(self.jobs), "tokens/s", digits=1),
            Row("  of the direct rate", median(ratios), "", 0.97, digits=3),
            Row("    least", min(ratios), "", digits=3),
            Row("    most", max(ratios), "", digits=3),
        ]


async def tokens(folder: Path, runs: int, length: int, progress: Steps) -> Tokens:
    """One predictor with the demo model; a load straight to it, then as jobs, in turn."""
    work = sample_workload()
    direct: list[float] = []
    jobs: list[float] = []
    async with (
        session() as http,
        NatsServer(folder) as nats,
        runtime(work, folder / "runtime.log") as model,
    ):
        await first_token(http, model.url, work.service, model.server, START_WITHIN_S)
        async with gateway(folder, nats, model.url) as gate:
            for repetition in range(runs + 1):
                progress.begin(f"{AT_ONCE} at once, {repetition} of {runs}")
                loads = [
                    prompts(work.service, 2 * repetition + which, AT_ONCE, length)
                    for which in range(2)
                ]
                if repetition % 2:
                    jobs.append(await _jobs(http, gate, loads[1], length))
                direct.append(await _direct(http, model.url, loads[0], length))
                if not repetition % 2:
                    jobs.append(await _jobs(http, gate, loads[1], length))
    return Tokens(tuple(direct[1:]), tuple(jobs[1:]))  # the first is for warming up


async def _direct(http: aiohttp.ClientSession, url: str, bodies: list[Json], length: int) -> float:
    streams = await together(http, url, bodies)
    _check([stream.tokens for stream in streams], length)
    seconds = max(s.ended for s in streams) - min(s.started for s in streams)
    return sum(s.tokens for s in streams) / seconds


async def _jobs(
    http: aiohttp.ClientSession, gate: Gateway, bodies: list[Json], length: int
) -> float:
    started = time.monotonic()
    made = await asyncio.gather(*(job(http, gate, body) for body in bodies))
    seconds = time.monotonic() - started
    _check(made, length)
    return sum(made) / seconds


async def job(http: aiohttp.ClientSession, gate: Gateway, body: Json) -> int:
    """Submit a chat and follow its stream to the end; the tokens that were generated."""
    async with http.post(gate.chat, json=body, headers={"Prefer": "respond-async"}) as response:
        if response.status != 202:
            raise MeasurementFailed(f"a job was not accepted: {await response.text()}")
        id_ = json.loads(await response.read())["id"]
    tail = b""
    async with http.get(f"{gate.url}/v1/jobs/{id_}/events") as response:
        async for chunk in response.content.iter_any():
            tail = (tail + chunk)[-8192:]
    if b"event: completed" not in tail:
        raise MeasurementFailed(f"job {id_} did not complete: {tail[-500:]!r}")
    return completion_tokens(tail)


def _check(made: list[int], length: int) -> None:
    if any(each != length for each in made):
        raise MeasurementFailed(f"the streams have {made} tokens, not {length} each")
