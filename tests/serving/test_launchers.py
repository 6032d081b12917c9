"""One contract, two launchers: what the tests' own predictors share with real ones."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from relume.serving.predictor import Predictor, PredictorLauncher

from .conftest import service
from .processes import ProcessLauncher
from .virtual import InProcessLauncher, InProcessPredictor, eventually


@pytest.fixture(params=[ProcessLauncher, InProcessLauncher])
async def predictor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Predictor]:
    launcher: PredictorLauncher = request.param()
    started = await launcher.start(service(), tmp_path / "predictor.log")
    if isinstance(started, InProcessPredictor):
        started.ready = True
    yield started
    started.kill()
    await started.wait()


async def status(predictor: Predictor, path: str) -> int:
    async with httpx.AsyncClient() as client:
        try:
            return (await client.get(predictor.base_url + path)).status_code
        except httpx.ConnectError:
            return 0


async def healthy(predictor: Predictor) -> None:
    async with asyncio.timeout(60):
        while await status(predictor, "/health") != 200:
            await asyncio.sleep(0.02)


async def test_it_becomes_healthy_and_tells_its_phases(predictor: Predictor) -> None:
    await healthy(predictor)
    async with httpx.AsyncClient() as client:
        answer = (await client.get(predictor.base_url + "/startup")).json()
    assert answer["phases_ms"]["fork"] > 0
    assert predictor.pid > 0
    assert predictor.started in ("template", "fresh")


async def test_terminated_it_exits_with_code_zero_and_closes_its_port(predictor: Predictor) -> None:
    await healthy(predictor)
    predictor.terminate()
    # uvicorn raises the signal again once it has drained.
    assert await predictor.wait() in (0, -15)
    assert await status(predictor, "/health") == 0


async def test_killed_it_reports_the_signal(predictor: Predictor) -> None:
    predictor.kill()
    assert await predictor.wait() == -9


async def test_its_end_may_be_awaited_by_many_and_again(predictor: Predictor) -> None:
    waits = [asyncio.create_task(predictor.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    predictor.kill()
    assert await asyncio.gather(*waits, predictor.wait()) == [-9, -9, -9]


async def test_a_cancelled_wait_disturbs_no_other(predictor: Predictor) -> None:
    first, second = (asyncio.create_task(predictor.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await eventually(first.done)
    predictor.kill()
    assert await second == -9


async def test_signals_after_its_end_are_nothing(predictor: Predictor) -> None:
    predictor.kill()
    await predictor.wait()
    predictor.terminate()
    predictor.kill()
