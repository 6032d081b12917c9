"""How fast jobs are accepted, beside the Broker of the same plane in the same run."""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
from event_figures import Row
from event_programs import Posted as PostedEvents
from event_programs import post
from job_scenes import Gateway, Posted, post_jobs
from processes import MeasurementFailed, started
from servers import environment, sample_workload

from relume.plane.launch import HOST, free_port

_WITHIN_S = 60.0
_HEARD_S = 3.0  # the queue looks once a second whether it is paused
TURNS = 8


@dataclass(frozen=True, slots=True)
class Intake:
    """Turns of the Broker and of the gateway, one right after the other."""

    events: tuple[PostedEvents, ...]
    jobs: tuple[Posted, ...]

    def rows(self) -> list[Row]:
        """Medians; the ratio is taken turn by turn, so that both saw the same machine."""
        pairs = list(zip(self.jobs, self.events, strict=True))
        ratios = [jobs.rate / events.rate for jobs, events in pairs]
        return [
            Row("accepted by the Broker", median(e.rate for e in self.events), "events/s"),
            Row("accepted as jobs", median(j.rate for j in self.jobs), "jobs/s"),
            Row("  of the Broker's", median(ratios), "", 0.8, digits=2),
            Row("    least", min(ratios), "", digits=2),
            Row("    most", max(ratios), "", digits=2),
            Row("Broker p99", median(e.p99_ms for e in self.events), "ms", digits=1),
            Row("jobs p50", median(j.p50_ms for j in self.jobs), "ms", digits=1),
            Row("jobs p99", median(j.p99_ms for j in self.jobs), "ms", below=60, digits=1),
            Row("jobs longest", max(j.longest_ms for j in self.jobs), "ms", digits=1),
        ]


async def intake(folder: Path, seconds: float) -> Intake:
    """`relume up` with a Broker and a service whose queue is paused; nothing is delivered."""
    work = sample_workload()
    ports = free_port(), free_port()
    argv = [sys.executable, "-m", "relume.cli.main", "up", str(work.manifest), "--no-template"]
    argv += ["--state", str(folder / "state"), "--port", str(ports[0])]
    argv += ["--broker-port", str(ports[1])]
    log = folder / "up.log"
    async with (
        started("relume up", argv, env=environment(), log=log) as server,
        aiohttp.ClientSession() as http,
    ):
        service = f"{work.namespace}/{work.service}"
        gateway = Gateway(server, f"http://{HOST}:{ports[0]}", service, 0.0)
        broker = f"http://{HOST}:{ports[1]}/{service}"
        await _paused(http, gateway)
        events: list[PostedEvents] = []
        jobs: list[Posted] = []
        await post_jobs(gateway.chat, seconds=1)  # warm
        after = (await post(broker, 0, seconds=1)).after
        for turn in range(TURNS):
            await asyncio.to_thread(os.sync)
            if turn % 2:
                jobs.append(await post_jobs(gateway.chat, seconds=seconds / TURNS))
            events.append(await post(broker, after, seconds=seconds / TURNS))
            after = events[-1].after
            if not turn % 2:
                jobs.append(await post_jobs(gateway.chat, seconds=seconds / TURNS))
    return Intake(tuple(events), tuple(jobs))


async def _paused(http: aiohttp.ClientSession, gateway: Gateway) -> None:
    """Pause the queue as soon as the plane takes the request."""
    deadline = time.monotonic() + _WITHIN_S
    while True:
        gateway.server.check_alive()
        try:
            await gateway.pause(http, True)
            return await asyncio.sleep(_HEARD_S)
        except (aiohttp.ClientError, MeasurementFailed):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
