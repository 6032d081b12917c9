"""The serving plane: it starts, ticks and stops every service of a plan, and reports on them."""

import asyncio
import itertools
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relume.base.clock import Clock, SystemClock
from relume.serving.activator import Activator
from relume.serving.budget import Budget
from relume.serving.doors import Pool
from relume.serving.errors import PlaneStopping, ServiceUnknown
from relume.serving.ledger import Ledger
from relume.serving.memory import Memory
from relume.serving.predictor import PredictorLauncher, ServedService, ServiceKey
from relume.serving.replica import Surroundings
from relume.serving.routing import Router
from relume.serving.service import Service
from relume.serving.settings import ServingSettings
from relume.serving.traffic import Traffic
from relume.web.hops import client_session


@dataclass(frozen=True, slots=True)
class _Running:
    """What a service needs that is added while the plane runs."""

    around: Surroundings
    replicas: asyncio.TaskGroup


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
        rng: random.Random | None = None,
    ) -> None:
        """log_dir: where predictors log; the ledger, coldstarts.jsonl, is next to it.

        base_url: what `url` in the status begins with. rng: gives a canary its share of requests.
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
        self._traffic: list[Traffic] = []
        self._ending: list[Service] = []
        self._rng = rng or random.Random()
        self._running: _Running | None = None
        self._runner: asyncio.Task[None] | None = None
        self.changed: Callable[[], None] = lambda: None
        """Called when the services or the replicas that get requests are others than before."""
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
            "services": [traffic.status(self._base_url) for traffic in self._traffic],
            "memory": self._memory.status(),
        }

    def coldstarts(self) -> list[dict[str, Any]]:
        """Return the last cold starts that ended, oldest first; JSON types only."""
        return [entry.to_json() for entry in self._ledger.entries]

    def update(self, services: Sequence[ServedService]) -> None:
        """Run these services from now on; a changed one has another `revision`.

        A changed service answers with its old replicas until a new one is ready. Where there is no
        memory for both, the old ones go first, and requests wait. With `canary_percent` below 100
        both answer, each its share. A removed service answers what it has begun, and fails what
        waits. Raises PlaneStopping.
        """
        if self._running is None or self._stop.is_set():
            raise PlaneStopping("the serving plane is not running")
        running, known = self._running, {traffic.key: traffic for traffic in self._traffic}
        now: list[Traffic] = []
        for config in services:
            traffic = known.pop(ServiceKey(config.namespace, config.name), None)
            if traffic is None:
                traffic = Traffic(config, self._maker(running), self._rng)
            else:
                no_room = self._memory.no_room_beside(traffic.rolled_out, config)
                self._end(traffic.update(config, stop_first=no_room))
            now.append(traffic)
        for traffic in known.values():
            for service in traffic.services:
                service.stop(ServiceUnknown(f"InferenceService {service.key} was removed"))
            self._end(traffic.services)
        self._traffic = now
        self._memory.look()  # what is set aside for minReplicas may be another sum now
        self.app.open(Router(self._traffic, self._settings.body_limit), running.around.session)
        self.changed()

    def pools(self) -> list[Pool]:
        """Return every service with a model, as a router in front of the plane sees it."""
        if self._running is None:
            return []
        session = self._running.around.session
        models = (traffic.rolled_out for traffic in self._traffic)
        return [Pool(each, self.app, session) for each in models if each.config.is_model]

    def _maker(self, running: _Running) -> Callable[[ServedService], Service]:
        """Return what makes the service of a revision."""

        def make(config: ServedService) -> Service:
            key = ServiceKey(config.namespace, config.name)
            others = {service.label for service in self._services if service.key == key}
            label = _label(config, others)
            return Service(config, running.around, running.replicas, self._log_dir, label)

        return make

    def _end(self, services: Iterable[Service]) -> None:
        """See these to their end; they get no request any more."""
        ending = [*services]
        self._ending = [s for s in (*self._ending, *ending) if not s.gone]
        if ending:
            self.changed()

    @property
    def _services(self) -> list[Service]:
        """Every revision that has, or may get, a process."""
        return [*(s for t in self._traffic for s in t.services), *self._ending]

    def warm(self, namespace: str, name: str) -> dict[str, Any]:
        """Start a service that is at zero, and return its status. Raises ServiceUnknown."""
        traffic = self._named(namespace, name)
        traffic.warm()
        return traffic.status(self._base_url)

    def first_byte_ms(self, namespace: str, name: str) -> float | None:
        """Predict how long a request waits for its first byte when the service is at zero.

        None where nothing tells. Raises ServiceUnknown.
        """
        return self._service(namespace, name).first_byte_ms

    def _service(self, namespace: str, name: str) -> Service:
        return self._named(namespace, name).rolled_out

    def _named(self, namespace: str, name: str) -> Traffic:
        for traffic in self._traffic:
            if traffic.key == ServiceKey(namespace, name):
                return traffic
        raise ServiceUnknown(f"no InferenceService {namespace}/{name} on this plane")

    async def _run(self, up: asyncio.Event) -> None:
        """Own everything that runs, until stop."""
        session = client_session(self._settings.keepalive_s)
        around = Surroundings(
            self._launcher,
            session,
            self._clock,
            self._settings,
            self._ledger,
            self._memory,
            lambda: self.changed(),
        )
        try:
            async with asyncio.TaskGroup() as replicas:
                self._running = _Running(around, replicas)
                self.update(self._configs)
                up.set()
                await self._beat()
        finally:
            self._running = None
            self.app.close()
            self._memory.close()
            for service in self._services:
                service.stop()  # on a failure of the plane itself, nothing may wait for ever
            await session.close()

    async def _beat(self) -> None:
        """Report and tick until stop; the task group then waits for the replicas."""
        settings = self._settings
        async with asyncio.TaskGroup() as beats:
            report = beats.create_task(self._every(settings.report_s, self._report))
            tick = beats.create_task(self._every(settings.tick_s, self._tick))
            measure = beats.create_task(self._measure())
            await self._stop.wait()
            for beat in (report, tick, measure):
                beat.cancel()

    async def _measure(self) -> None:
        """Look at the memory of processes now and then, where it is bounded."""
        while self._settings.memory_bytes is not None:
            await self._clock.sleep(self._settings.measure_s)
            await self._memory.measure(self._settings.loaded_after_s)

    def _report(self) -> None:
        for service in self._services:
            service.report()

    def _tick(self) -> None:
        for service in self._ending:
            service.tick()
        for traffic in self._traffic:
            self._end(traffic.tick())

    async def _every(self, period: float, act: Callable[[], None]) -> None:
        """Act once a period, without drifting."""
        due = self._clock.monotonic()
        while True:
            due = max(due + period, self._clock.monotonic())
            await self._clock.sleep(due - self._clock.monotonic())
            act()

    def _hurry(self) -> None:
        self._memory.close()
        for service in self._services:
            service.hurry()


def _label(config: ServedService, others: Collection[str]) -> str:
    """Return what tells a revision apart from the `others` of its service; "" where it is alone.

    A service keeps its label in a rollout, so one that answers as a later revision may have the
    label of this one.
    """
    if not others:
        return ""
    again = (f"{config.revision}-{number}" for number in itertools.count(2))
    labels = itertools.chain((config.revision,), again)
    return next(label for label in labels if label not in others)
