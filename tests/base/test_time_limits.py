"""A block with a time limit ends as one with `asyncio.timeout` does."""

import asyncio

import pytest

from relume.base.time_limits import TimeLimit


async def test_a_block_in_time_ends_as_it_would() -> None:
    with TimeLimit(60):
        await asyncio.sleep(0)
    with pytest.raises(KeyError), TimeLimit(60):
        raise KeyError


async def test_a_late_block_is_cancelled_and_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError), TimeLimit(60), TimeLimit(0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()


async def test_each_block_has_its_own_end() -> None:
    async def late(seconds: float) -> float:
        try:
            with TimeLimit(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(seconds)
        return seconds

    ended: list[float] = []
    await asyncio.gather(*map(late, (0.06, 0.02, 0.04, 0.001)))
    assert ended == [0.001, 0.02, 0.04, 0.06]


async def test_a_cancellation_from_elsewhere_goes_on_as_such() -> None:
    async def waits() -> None:
        with TimeLimit(60):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
