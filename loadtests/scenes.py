"""The scenes that are timed: `vllm serve` starts; a plane starts, is woken twice, sleeps again."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from client import event_to_answer_s, first_token, http_to_first_token_s, session
from processes import MeasurementFailed
from running import Steps
from servers import START_WITHIN_S, Plane, Workload, plane, vllm_serve

from relume.base.vocabulary import ANSWER_PHASE
from relume.cli.errors import NoPlane
from relume.config.resources import ZeroMode

SETTLE_S = 1.0
ZERO_WITHIN_S = 180.0
STEPS_A_ROUND = 10  # vllm serve; three times: a plane, and an event and a chat that wake it

VLLM = "vllm serve: process start → first token"
#: What stays at zero (`relume.dev/zero`), from the most to nothing.
MODES: tuple[ZeroMode, ...] = ("engine", "template", "process")
KEEPS: Mapping[ZeroMode, str] = {
    "engine": "loaded engine",
    "template": "warm template",
    "process": "fresh process",
}
EVENT = {mode: f"event at zero, {KEEPS[mode]} → answer" for mode in MODES}
HTTP = {mode: f"chat at zero, {KEEPS[mode]} → first token" for mode in MODES}
STATUS = {mode: f"relume up, zero: {mode} → first status" for mode in MODES}
SERVES = {mode: f"relume up, zero: {mode} → Brokers open" for mode in MODES}
AT_ZERO = {mode: f"at zero, {KEEPS[mode]}" for mode in MODES}
READY = {mode: f"one predictor ready, {KEEPS[mode]}" for mode in MODES}
_STARTED: Mapping[ZeroMode, str] = {"engine": "engine", "template": "template", "process": "fresh"}
VLLM_READY = "vllm serve, ready"


class ColdStarts:
    """All samples of one run of this program, by the name of the measure."""

    def __init__(self, workload: Workload, folder: Path, progress: Steps) -> None:
        self.samples: defaultdict[str, list[float]] = defaultdict(list)
        self.phases: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
        #: Of each start, which part of its time the ledger's phases are.
        self.accounted: defaultdict[str, list[float]] = defaultdict(list)
        self._workload = workload
        self._folder = folder
        self._progress = progress
        self._starts = 0

    async def measure(self, runs: int, *, warm_up: bool) -> None:
        """Take `runs` samples of each measure. Raises MeasurementFailed."""
        async with session() as http:
            if warm_up:  # fills the page cache, and vLLM's own cache of model classes
                await self._vllm(http, "warm-up")
                self.samples.clear()
            for number in range(runs):
                scenes = (None, *MODES)  # None: vllm serve
                shift = number % len(scenes)
                for mode in scenes[shift:] + scenes[:shift]:
                    await asyncio.sleep(SETTLE_S)
                    name = f"round {number + 1} of {runs}"
                    if mode is None:
                        await self._vllm(http, name)
                    else:
                        await self._plane(http, name, mode, event_first=number % 2 == 0)

    async def _vllm(self, http: aiohttp.ClientSession, name: str) -> None:
        self._progress.begin(f"{name}: vllm serve")
        self._starts += 1
        async with vllm_serve(self._workload, self._folder / f"{self._starts}-vllm.log") as vllm:
            moment = await first_token(
                http, vllm.url, self._workload.service, vllm.server, START_WITHIN_S
            )
            self.samples[VLLM].append(moment - vllm.server.started)
            self.samples[VLLM_READY].append(vllm.server.pss_mb())

    async def _plane(
        self, http: aiohttp.ClientSession, name: str, mode: ZeroMode, *, event_first: bool
    ) -> None:
        words = KEEPS[mode]
        self._progress.begin(f"{name}: relume up, {words}")
        self._starts += 1
        folder = self._folder / f"{self._starts}-plane"
        async with plane(self._workload, folder, mode=mode) as running:
            self.samples[STATUS[mode]].append(running.answered_s)
            self.samples[SERVES[mode]].append(running.serving_s)
            for event in (event_first, not event_first):
                await self._at_zero(running)
                self._progress.begin(f"{name}: {words}, {'event' if event else 'HTTP'} at zero")
                await self._wake(http, running, mode, event=event)
            await self._at_zero(running)
            # At the end, so that what serving leaves behind is counted.
            self.samples[AT_ZERO[mode]].append(running.server.pss_mb())

    async def _wake(
        self, http: aiohttp.ClientSession, running: Plane, mode: ZeroMode, *, event: bool
    ) -> None:
        if event:
            self.samples[EVENT[mode]].append(await event_to_answer_s(running))
        else:
            self.samples[HTTP[mode]].append(await http_to_first_token_s(http, running))
        self.samples[READY[mode]].append(running.server.pss_mb())
        entry = (await running.client.cold_starts())[-1]
        if entry.started != _STARTED[mode]:
            raise MeasurementFailed(f"the predictor was started as {entry.started}: {entry.reason}")
        known = {**entry.phases, ANSWER_PHASE: entry.answer or 0.0}
        self.phases[entry.started].append(known)
        self.accounted[entry.started].append(sum(known.values()) / entry.total)

    async def _at_zero(self, running: Plane) -> None:
        """Wait until all templates can fork and no predictor runs."""
        try:
            async with asyncio.timeout(ZERO_WITHIN_S):
                while True:
                    running.server.check_alive()
                    status = await running.client.status()
                    template = status.template
                    engines = all(engine.state == "ready" for engine in template.engines)
                    warm = template.state == "off" or (template.state == "ready" and engines)
                    if warm and (await running.service_status()).state == "zero":
                        break
                    await asyncio.sleep(0.25)
        except TimeoutError:
            raise MeasurementFailed(
                f"{running.server.name}: not at zero within {ZERO_WITHIN_S:g} s"
            ) from None
        except NoPlane as error:
            running.server.check_alive()
            raise MeasurementFailed(str(error)) from None
        await asyncio.sleep(SETTLE_S)
