"""A block that a timer can end: only its own end, only once, and never somebody else's."""

import asyncio

import pytest

from relume.base.interrupt import Interrupt


class TimeUp(Exception):
    pass


async def test_a_block_ends_with_the_error_that_it_is_given() -> None:
    interrupt = Interrupt()
    asyncio.get_running_loop().call_later(0.01, interrupt.trip, TimeUp("first"))
    asyncio.get_running_loop().call_later(0.01, interrupt.trip, TimeUp("second"))
    with pytest.raises(TimeUp, match="first"), interrupt:
        await asyncio.sleep(10)
    await asyncio.sleep(0.02)  # nothing of it is left


async def test_outside_its_block_it_does_nothing() -> None:
    interrupt = Interrupt()
    interrupt.trip(TimeUp())
    with interrupt:
        await asyncio.sleep(0)
    interrupt.trip(TimeUp())
    await asyncio.sleep(0)


async def test_the_block_may_be_entered_again() -> None:
    interrupt = Interrupt()
    for _ in range(2):
        asyncio.get_running_loop().call_later(0.01, interrupt.trip, TimeUp())
        with pytest.raises(TimeUp), interrupt:
            await asyncio.sleep(10)


async def test_a_cancellation_from_elsewhere_passes_through() -> None:
    interrupt = Interrupt()

    async def work() -> None:
        with interrupt:
            await asyncio.sleep(10)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    interrupt.trip(TimeUp())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
