"""Requests, clients, predictors and time in any order: nothing is dropped, nothing is left."""

import asyncio
import random

import pytest
from aiohttp import web

from relume.base.testing import settle

from .conftest import Autoscaling, Stage, Staging, service
from .conversation import Conversation
from .virtual import eventually

DOCUMENTED = {200, 502, 503, 504}


class Storm:
    """A random script."""

    def __init__(self, s: Stage, seed: int) -> None:
        self.s = s
        self.random = random.Random(seed)
        self.asked: list[Conversation] = []
        self.gone: set[Conversation] = set()

    async def step(self) -> None:
        act = self.random.choices(
            [self.ask, self.hang_up, self.make_ready, self.crash, self.wait],
            weights=[8, 3, 3, 1, 6],
        )[0]
        await act()
        await settle()
        status = self.s.status()
        assert status["desired"] <= 3
        assert status["held"] + status["in_flight"] <= sum(not c.done for c in self.asked)
        if status["held"]:
            assert status["desired"] > 0, "a held request is demand"

    async def ask(self) -> None:
        self.asked.append(self.s.ask(f"/serving/default/summarize/{self.random.choice('ab')}"))

    async def hang_up(self) -> None:
        open_ones = [c for c in self.asked if not c.done]
        if open_ones:
            leaver = self.random.choice(open_ones)
            self.gone.add(leaver)
            leaver.hang_up()

    async def make_ready(self) -> None:
        for predictor in self.s.launcher.started:
            predictor.ready = predictor.ready or self.random.random() < 0.7

    async def crash(self) -> None:
        if self.s.launcher.started:
            self.random.choice(self.s.launcher.started).exit(-9)

    async def wait(self) -> None:
        await self.s.clock.advance(self.random.choice([0.1, 1, 2, 5, 20, 90]))
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(24))
async def test_every_request_is_answered_as_documented_and_nothing_is_left(
    stage: Staging, seed: int
) -> None:
    async def infer(request: web.Request) -> web.StreamResponse:
        if request.path == "/b":
            await asyncio.sleep(0.02)
        return web.Response(text="done")

    config = service(
        container_concurrency=[0, 1, 2, 5][seed % 4],
        max_replicas=3,
        timeout_s=100,
        autoscaling=Autoscaling(window_s=6),
    )
    async with stage(config, handler=infer) as s:
        storm = Storm(s, seed)
        for _ in range(120):
            await storm.step()
        for predictor in s.launcher.started:
            predictor.ready = True
        while not all(c.done for c in storm.asked):
            for predictor in s.launcher.started:
                predictor.ready = True
            await s.clock.advance(1)
            await asyncio.sleep(0.001)
        answered = [c for c in storm.asked if c not in storm.gone]
        assert {c.status for c in answered} <= DOCUMENTED
        assert all(c.complete for c in answered)
        for c in storm.asked:
            await c.end()
        status = s.status()
        assert (status["held"], status["in_flight"]) == (0, 0)
        while s.status()["pids"]:
            await s.clock.advance(1)
            await asyncio.sleep(0.001)
        await eventually(lambda: s.status()["state"] in ("zero", "failed"))
        assert all(p.terminated or p.killed or p.exited for p in s.launcher.started)
