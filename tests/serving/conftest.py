"""What the serving tests share."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from relume.base.testing import VirtualClock
from relume.config import Autoscaling, InferenceService
from relume.serving.plane import ServingPlane
from relume.serving.settings import ServingSettings

from .conversation import Conversation, ask
from .virtual import Handler, InProcessLauncher, InProcessPredictor, eventually, hello

# Longer than the plane itself waits for a probe.
_PROBED_S = 1.5


def service(**changes: Any) -> InferenceService:
    """Return a service that starts at zero."""
    base = InferenceService(
        namespace="default",
        name="summarize",
        model_format="vLLM",
        storage_uri="hf://org/model",
        min_replicas=0,
    )
    if "timeout_s" in changes:
        changes.setdefault("response_start_timeout_s", changes["timeout_s"])
    return replace(base, **changes)


@dataclass
class Stage:
    """A plane under a virtual clock with predictors in this process."""

    plane: ServingPlane
    clock: VirtualClock
    launcher: InProcessLauncher

    def ask(
        self, path: str = "/serving/default/summarize/v1/chat/completions", **kw: Any
    ) -> Conversation:
        return ask(self.plane.app, path, **kw)

    def status(self, name: str = "summarize") -> dict[str, Any]:
        return next(s for s in self.plane.status()["services"] if s["name"] == name)

    async def launched(self, count: int = 1) -> InProcessPredictor:
        """Wait for the n-th predictor to be launched."""
        await eventually(lambda: len(self.launcher.started) >= count, "a launch")
        return self.launcher.started[count - 1]

    async def ready(self, count: int = 1) -> InProcessPredictor:
        """Make the n-th predictor ready and let the plane notice."""
        predictor = await self.launched(count)
        predictor.ready = True
        before = self.noticed
        while self.noticed == before:
            await self.clock.advance(1)
            # The probe goes through a real socket. Time stands still until it is answered: a test
            # counts on how much of it has passed.
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROBED_S):
                    while self.noticed == before:
                        await asyncio.sleep(0.001)
        return predictor

    @property
    def noticed(self) -> tuple[int, int]:
        """How many predictors are ready, and of how many services the one started last was so.

        In a rollout the second changes alone, because the old predictor goes for the new one.
        """
        services = self.plane.status()["services"]
        last = [s["last_cold_start"] for s in services if s["last_cold_start"]]
        parts = [part for s in services for part in (s["traffic"] or [s])]
        return sum(part["replicas"] for part in parts), sum(e["ready"] is not None for e in last)


Staging = Callable[..., Any]


@pytest.fixture
def stage(tmp_path: Path) -> Staging:
    """Return a context manager that runs a plane."""

    @asynccontextmanager
    async def run(
        *services: InferenceService, handler: Handler = hello, **settings: Any
    ) -> AsyncIterator[Stage]:
        clock = VirtualClock()
        launcher = InProcessLauncher(handler)
        plane = ServingPlane(
            services or (service(),),
            launcher,
            log_dir=tmp_path / "logs",
            clock=clock,
            rng=random.Random(14),
            # Coarse probes, so that a virtual hour is cheap.
            settings=ServingSettings(**{"probe_interval_s": 1.0, **settings}),
        )
        await plane.start()
        try:
            yield Stage(plane, clock, launcher)
        finally:
            await plane.stop(0)

    return run


__all__ = ["Autoscaling", "Stage", "Staging", "service"]
