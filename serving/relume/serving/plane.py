"""The serving plane: it starts, ticks and stops every service of a plan, and reports on them."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relume.base.clock import Clock, SystemClock
from relume.serving.activator import Activator, Router
from relume.serving.budget import Budget
from relume.serving.ledger import Ledger
from relume.serving.memory import Memory
from relume.serving.predictor import PredictorLauncher, ServedService
from relume.serving.replica import Surroundings
from relume.serving.service import Service
from relume.serving.settings import ServingSettings
from relume.web.hops import client_session


class ServingPlane:
    """Knative Serving for one machine: holds, starts, forwards, scales, takes away.

    Between `start` and `stop`, serve `app` with any ASGI server on loopback. `app` handles http and
    websocket scopes and acknowledges lifespan.
    """

    def __init__(
        self,
        services: Sequence[ServedService],
        launcher: PredictorLauncher,
        *,
        log_dir: Path,
        clock: Clock | None = None,
        settings: ServingSettings | None = None,
        base_url: str = "",
    ) -> None:
        """log_dir: where predictors log; the ledger, coldstarts.jsonl, is next to it.

        base_url: what `url` in the status begins with.
        """
        self._configs = tuple(services)
        self._launcher = launcher
        self._clock = clock or SystemClock()
        self._settings = settings or ServingSettings()
        self._log_dir = log_dir
        self._ledger = Ledger(log_dir.parent / "coldstarts.jsonl")
        self._base_url = base_url
        self.app = Activator(self._clock, self._settings.body_high_water)
        """The ASGI application."""
        most = self._settings.memory_bytes
        budget = None if most is None else Budget(most, self._settings.memory)
        self._memory = Memory(budget, launcher, self._clock)
        self._services: list[Service] = []
        self._runner: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Return once requests can be served; predictors that the plan wants start meanwhile."""
        up = asyncio.Event()
        self._runner = asyncio.create_task(self._run(up), name="serving plane")
        waiting = asyncio.create_task(up.wait())
        await asyncio.wait({self._runner, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._runner.done():
            await self._runner

    async def stop(self, grace_s: float = 30.0) -> None:
        """Fail held requests, let running ones finish for `grace_s`, end every predictor.

        Afterwards no process is left. Raises what the plane itself failed with, if it did.
        """
        if self._runner is None:
            return
        self._memory.close()
        for service in self._services:
            service.stop()
        timer = self._clock.call_later(grace_s, self._hurry)
        self._stop.set()
        try:
            await self._runner
        finally:
            timer.cancel()

    async def wait(self) -> None:
        """Return when the plane has stopped. Raises what it failed with, if it did."""
        if self._runner is not None:
            await asyncio.shield(self._runner)

    def status(self) -> dict[str, Any]:
        """Return every service's state; JSON types only."""
        return {
            "services": [service.status(self._base_url) for service in self._services],
            "memory": self._memory.status(),
        }

    def coldstarts(self) -> list[dict[str, Any]]:
        """Return the last cold starts that ended, oldest first; JSON types only."""
        return [entry.to_json() for entry in self._ledger.entries]

    async def _run(self, up: asyncio.Event) -> None:
        """Own everything that runs, until stop."""
        session = client_session(self._settings.keepalive_s)
        around = Surroundings(
            self._launcher, session, self._clock, self._settings, self._ledger, self._memory
        )
        try:
            async with asyncio.TaskGroup() as replicas:
                self._services = [
                    Service(config, around, replicas, self._log_dir) for config in self._configs
                ]
                self.app.open(Router(self._services, self._settings.body_limit), session)
                for service in self._services:
                    service.open()
                up.set()
                await self._beat()
        finally:
            self.app.close()
            self._memory.close()
            for service in self._services:
                service.stop()  # on a failure of the plane itself, nothing may wait for ever
            await session.close()

    async def _beat(self) -> None:
        """Report and tick until stop; the task group then waits for the replicas."""
        settings = self._settings
        async with asyncio.TaskGroup() as beats:
            report = beats.create_task(self._every(settings.report_s, Service.report))
            tick = beats.create_task(self._every(settings.tick_s, Service.tick))
            measure = beats.create_task(self._measure())
            await self._stop.wait()
            for beat in (report, tick, measure):
                beat.cancel()

    async def _measure(self) -> None:
        """Look at the memory of processes now and then, where it is bounded."""
        while self._settings.memory_bytes is not None:
            await self._clock.sleep(self._settings.measure_s)
            await self._memory.measure()

    async def _every(self, period: float, act: Callable[[Service], None]) -> None:
        """Act on every service once a period, without drifting."""
        due = self._clock.monotonic()
        while True:
            due = max(due + period, self._clock.monotonic())
            await self._clock.sleep(due - self._clock.monotonic())
            for service in self._services:
                act(service)

    def _hurry(self) -> None:
        for service in self._services:
            service.hurry()
