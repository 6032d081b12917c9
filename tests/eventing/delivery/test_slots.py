"""The bound on concurrent deliveries."""

import asyncio

from relume.eventing.delivery.turns import Slots


async def taken(slots: Slots, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.ensure_future(slots.acquire()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_first_come_first_served() -> None:
    slots = Slots(lambda: 1)
    first, second, third = await taken(slots, 3)
    assert [t.done() for t in (first, second, third)] == [True, False, False]
    assert slots.free == -2
    slots.release()
    await asyncio.sleep(0)
    assert [second.done(), third.done()] == [True, False]
    slots.release()
    await third


async def test_a_bound_that_grows_lets_the_waiting_in() -> None:
    size = [1]
    slots = Slots(lambda: size[0])
    _, second, third = await taken(slots, 3)
    size[0] = 3
    slots.grant()
    await asyncio.gather(second, third)


async def test_a_bound_that_shrinks_interrupts_nobody() -> None:
    size = [2]
    slots = Slots(lambda: size[0])
    await taken(slots, 2)
    size[0] = 1
    [late] = await taken(slots, 1)
    slots.release()
    await asyncio.sleep(0)
    assert not late.done()
    slots.release()
    await late
    assert slots.taken == 1


async def test_who_stops_waiting_takes_no_slot() -> None:
    slots = Slots(lambda: 1)
    _, second, third = await taken(slots, 3)
    second.cancel()
    slots.release()  # before the cancelled one has run
    await third
    assert slots.taken == 1
    slots.release()
    assert (slots.taken, slots.free) == (0, 1)


async def test_a_slot_that_came_together_with_the_cancellation_is_passed_on() -> None:
    slots = Slots(lambda: 1)
    _, second, third = await taken(slots, 3)
    slots.release()
    second.cancel()
    await third
    assert slots.taken == 1


async def test_a_pause_gives_no_slots_and_its_end_lets_the_first_in_first() -> None:
    now = [0.0]
    slots = Slots(lambda: 1, lambda: now[0])
    slots.pause(10)
    slots.pause(5)  # asks for less than was promised already
    assert (slots.size, slots.free) == (0, 0)
    [first] = await taken(slots, 1)
    now[0] = 9.9
    [second] = await taken(slots, 1)
    assert not first.done()
    now[0] = 10.0
    [third] = await taken(slots, 1)  # whoever comes now opens the door for all
    await first
    assert not second.done()
    slots.release()
    await second
    slots.release()
    await third
