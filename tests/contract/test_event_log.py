"""What every EventLog promises, run over the one in memory and the one on JetStream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import Envelope, identity
from relume.eventing.event_log import BrokerKey, Cursor, EventTooLarge, LeasedEvent
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.plane import ClosableLog
from relume.eventing.settings import MAX_MESSAGE_BYTES, EventingSettings
from relume.eventing.testing import MemoryLog

BROKER = BrokerKey("default", "a.b")
# For tests that wait until a lease runs out. All others have one that outlasts a busy machine.
SHORT_LEASE_S = 0.5
runs_out = pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])

Open = Callable[[], Awaitable[ClosableLog]]


def envelope(number: int, **attributes: object) -> Envelope:
    event = CloudEvent.create(
        {"id": str(number), "source": "/s", "type": "t", **attributes}, b"data\n%d" % number
    )
    return Envelope(event, {"x-request-id": str(number)})


@pytest.fixture
def lease_s() -> float:
    return 120.0


@pytest.fixture(params=["memory", "jetstream"])
async def open_log(
    request: pytest.FixtureRequest, tmp_path: Path, lease_s: float
) -> AsyncIterator[Open]:
    """Opens the log; a second call is another process that finds what the first one left."""
    clock, settings = SystemClock(), EventingSettings(lease_s=lease_s, duplicate_window_s=60.0)
    if request.param == "memory":
        memory = MemoryLog(settings, clock)

        async def same() -> ClosableLog:
            return memory

        yield same
        return
    opened: list[JetStreamLog] = []
    async with NatsServer(tmp_path) as nats:

        async def connect() -> ClosableLog:
            opened.append(await JetStreamLog.connect(nats.url, settings, clock))
            return opened[-1]

        yield connect
        for each in opened:
            await each.close()


@pytest.fixture
async def log(open_log: Open) -> ClosableLog:
    opened = await open_log()
    await opened.open_broker(BROKER, ["one", "two"])
    return opened


async def fetch(cursor: Cursor, count: int) -> Sequence[LeasedEvent]:
    """Exactly `count` events, unsettled."""
    held: list[LeasedEvent] = []
    async with asyncio.timeout(60):
        while len(held) < count:
            held += await cursor.fetch(count - len(held))
    return held


async def nothing_more(cursor: Cursor, within_s: float = 0.2) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await cursor.fetch(1)
    except TimeoutError:
        return True
    return False


async def fill(log: ClosableLog, *numbers: int) -> list[bool]:
    return [await log.append(BROKER, envelope(n), 5.0) for n in numbers]


async def test_every_trigger_gets_every_event_in_order_and_untouched(log: ClosableLog) -> None:
    assert await fill(log, 1, 2, 3) == [True, True, True]
    for trigger in ("one", "two"):
        held = await fetch(log.cursor(BROKER, trigger), 3)
        assert [Envelope.unpack(each.payload) for each in held] == [envelope(n) for n in (1, 2, 3)]
        assert [each.sequence for each in held] == [1, 2, 3]


async def test_the_same_event_is_stored_once(log: ClosableLog) -> None:
    assert await fill(log, 1, 1, 2, 1) == [True, False, True, False]
    cursor = log.cursor(BROKER, "one")
    assert [each.sequence for each in await fetch(cursor, 2)] == [1, 2]


async def test_another_type_or_error_destination_makes_another_event(log: ClosableLog) -> None:
    assert await log.append(BROKER, envelope(1), 5.0)
    assert await log.append(BROKER, envelope(1, type="u"), 5.0)
    assert await log.append(BROKER, envelope(1, knativeerrordest="http://x"), 5.0)
    assert not await log.append(BROKER, envelope(1, knativearrivaltime="later"), 5.0)


async def test_an_event_with_long_data_is_recalled_whole_also_when_it_came_twice(
    log: ClosableLog,
) -> None:
    long = Envelope(CloudEvent.create({"id": "1", "source": "/s", "type": "t"}, b"x" * 100_000))
    key = identity(long.event)
    assert await log.recall(BROKER, key) is None
    await fill(log, 7)
    assert await log.append(BROKER, long, 5.0)
    assert await log.recall(BROKER, key) == long
    assert not await log.append(BROKER, long, 5.0)
    assert await log.recall(BROKER, key) == long
    of_a_trigger = replace(long, via="t")
    assert await log.append_all(BROKER, [envelope(8), long], 5.0) == [True, False]
    assert await log.append(BROKER, of_a_trigger, 5.0)
    assert await log.recall(BROKER, identity(long.event, "t")) == long


async def test_a_fetch_takes_no_more_than_it_asks_for(log: ClosableLog) -> None:
    await fill(log, 1, 2, 3)
    cursor = log.cursor(BROKER, "one")
    assert len(await cursor.fetch(2)) <= 2


async def test_a_fetch_waits_for_the_next_event(log: ClosableLog) -> None:
    cursor = log.cursor(BROKER, "one")
    waiting = asyncio.create_task(fetch(cursor, 1))
    assert await nothing_more(log.cursor(BROKER, "two"))
    await fill(log, 1)
    assert [each.sequence for each in await waiting] == [1]


async def test_a_settled_event_does_not_come_again(log: ClosableLog) -> None:
    await fill(log, 1, 2)
    cursor = log.cursor(BROKER, "one")
    first, second = await fetch(cursor, 2)
    await first.settle()
    await second.give_back()
    assert [each.sequence for each in await fetch(cursor, 1)] == [2]


async def test_an_event_given_back_comes_again_at_once(log: ClosableLog) -> None:
    await fill(log, 1)
    cursor = log.cursor(BROKER, "one")
    held = await fetch(cursor, 1)
    await held[0].give_back()
    async with asyncio.timeout(60):  # half of its lease
        assert [each.sequence for each in await cursor.fetch(1)] == [1]


@runs_out
async def test_an_event_comes_again_when_its_lease_runs_out(log: ClosableLog) -> None:
    await fill(log, 1)
    cursor = log.cursor(BROKER, "one")
    await fetch(cursor, 1)
    again = await fetch(cursor, 1)
    assert [each.sequence for each in again] == [1]
    await again[0].settle()


@pytest.mark.parametrize("lease_s", [2.0])
async def test_a_lease_that_is_extended_does_not_run_out(log: ClosableLog) -> None:
    await fill(log, 1)
    cursor = log.cursor(BROKER, "one")
    held = await fetch(cursor, 1)
    for _ in range(3):
        assert await nothing_more(cursor, 0.75)
        await held[0].extend()


@runs_out
async def test_settling_by_an_older_lease_is_enough(log: ClosableLog) -> None:
    await fill(log, 1)
    cursor = log.cursor(BROKER, "one")
    old = await fetch(cursor, 1)
    await fetch(cursor, 1)
    await old[0].settle()
    await cursor.confirm()
    assert await nothing_more(cursor)


async def test_waiting_counts_what_was_never_fetched(log: ClosableLog) -> None:
    cursor = log.cursor(BROKER, "one")
    assert cursor.waiting == 0
    await fill(log, 1, 2, 3)
    assert cursor.waiting == 3
    await fetch(cursor, 3)
    assert (cursor.waiting, log.cursor(BROKER, "two").waiting) == (0, 3)


async def test_an_event_that_does_not_fit_is_refused(log: ClosableLog) -> None:
    event = CloudEvent.create({"id": "1", "source": "/s", "type": "t"}, bytes(MAX_MESSAGE_BYTES))
    with pytest.raises(EventTooLarge):
        await log.append(BROKER, Envelope(event), 5.0)


async def test_dead_letters_are_kept_once_per_trigger(log: ClosableLog) -> None:
    for trigger in ("one", "one", "two"):
        await log.bury(BROKER, trigger, envelope(1), 5.0)
    assert log.buried(BROKER) == 2


async def test_the_next_process_goes_on_where_the_last_one_stopped(open_log: Open) -> None:
    first = await open_log()
    await first.open_broker(BROKER, ["one"])
    await fill(first, 1, 2, 3)
    cursor = first.cursor(BROKER, "one")
    settled, returned = await fetch(cursor, 2)
    await cursor.stop()
    await settled.settle()
    await returned.give_back()
    await cursor.confirm()
    second = await open_log()
    await second.open_broker(BROKER, ["one"])
    assert await fill(second, 1) == [False]
    seen = []
    async with asyncio.timeout(60):
        while len(seen) < 2:
            for held in await second.cursor(BROKER, "one").fetch(10):
                seen.append(held.sequence)
                await held.settle()
    assert sorted(seen) == [2, 3]


async def test_a_cursor_knows_what_earlier_processes_left_unsettled(open_log: Open) -> None:
    first = await open_log()
    await first.open_broker(BROKER, ["one"])
    assert first.cursor(BROKER, "one").inherited == (0, 0)
    await fill(first, 1, 2, 3)
    held = await fetch(first.cursor(BROKER, "one"), 3)
    await held[1].settle()
    await first.cursor(BROKER, "one").confirm()
    second = await open_log()
    await second.open_broker(BROKER, ["one", "new"])
    assert second.cursor(BROKER, "one").inherited == (2, 3)
    assert second.cursor(BROKER, "new").inherited == (0, 3)


async def test_a_new_trigger_sees_what_comes_from_now_on_and_a_removed_one_is_forgotten(
    open_log: Open,
) -> None:
    first = await open_log()
    await first.open_broker(BROKER, ["old"])
    await fill(first, 1)
    second = await open_log()
    await second.open_broker(BROKER, ["new"])
    assert await fill(second, 2) == [True]
    assert [each.sequence for each in await fetch(second.cursor(BROKER, "new"), 1)] == [2]
    third = await open_log()
    await third.open_broker(BROKER, ["new", "old"])
    assert third.cursor(BROKER, "old").waiting == 0


async def test_a_cancelled_fetch_loses_nothing(log: ClosableLog) -> None:
    cursor = log.cursor(BROKER, "one")
    for number in range(1, 6):
        waiting = asyncio.create_task(cursor.fetch(10))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():  # it had the last event already
            for held in waiting.result():
                await held.give_back()
        await fill(log, number)
    assert sorted(each.sequence for each in await fetch(cursor, 5)) == [1, 2, 3, 4, 5]


async def test_a_sweep_keeps_what_is_not_settled(log: ClosableLog) -> None:
    await fill(log, 1, 2)
    await log.sweep()
    assert len(await fetch(log.cursor(BROKER, "one"), 2)) == 2


async def test_an_open_broker_gets_one_more_trigger_and_loses_one_while_the_others_work(
    open_log: Open,
) -> None:
    log = await open_log()
    await log.open_broker(BROKER, ["a", "b"])
    works = log.cursor(BROKER, "a")
    await log.append(BROKER, envelope(1), 5)
    [first] = await works.fetch(1)
    await log.open_broker(BROKER, ["a", "c"])
    assert log.cursor(BROKER, "a") is works
    await log.append(BROKER, envelope(2), 5)
    [new] = await log.cursor(BROKER, "c").fetch(5)
    assert Envelope.unpack(new.payload).event.id == "2"
    [second] = await works.fetch(5)
    assert (first.sequence, second.sequence) == (1, 2)
    for leased in (first, second, new):
        await leased.settle()
    assert (works.waiting, log.cursor(BROKER, "c").waiting) == (0, 0)
