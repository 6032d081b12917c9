"""Leaving a block from outside, and only that block."""

import asyncio

import pytest

from relume.base.testing import VirtualClock
from relume.serving.timeouts import Cut, Cutoff, RequestClocks, Timeouts


async def test_a_block_is_left_with_its_reason() -> None:
    cutoff = Cutoff()
    asyncio.get_running_loop().call_soon(cutoff.trip, Cut.TIMED_OUT)
    with cutoff:
        await asyncio.Event().wait()
    assert cutoff.cause is Cut.TIMED_OUT
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_first_reason_stands() -> None:
    cutoff = Cutoff()
    asyncio.get_running_loop().call_soon(cutoff.trip, Cut.DISCONNECTED)
    asyncio.get_running_loop().call_soon(cutoff.trip, Cut.TIMED_OUT)
    with cutoff:
        await asyncio.Event().wait()
    await asyncio.sleep(0)
    assert cutoff.cause is Cut.DISCONNECTED


async def test_a_block_that_is_over_cannot_be_left() -> None:
    cutoff = Cutoff()
    with cutoff:
        pass
    cutoff.trip(Cut.TIMED_OUT)
    await asyncio.sleep(0)
    assert cutoff.cause is None


async def test_a_cancellation_from_elsewhere_passes_through() -> None:
    cutoff = Cutoff()

    async def work() -> None:
        with cutoff:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    cutoff.trip(Cut.TIMED_OUT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_in_the_block_passes_through() -> None:
    with pytest.raises(ValueError, match="no"), Cutoff():
        raise ValueError("no")


async def test_the_clocks_of_a_request_that_has_waited_already_run_out_sooner() -> None:
    clock, cutoff = VirtualClock(), Cutoff()
    await clock.advance(20)
    RequestClocks(Timeouts(total_s=60, idle_s=30), clock, cutoff, since=5.0)
    assert clock.sleeping == [15.0, 45.0]
