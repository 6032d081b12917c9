"""What every DeadLetterStore promises, run over the one in memory and the one on JetStream."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from relume.base.clock import SystemClock
from relume.cloudevents.event import CloudEvent
from relume.eventing.dead_letters import Letter, NoSuchDeadLetter, UnknownTrigger, redrive
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.plane import ClosableLog
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog

BROKER = BrokerKey("default", "a.b")
OTHER = BrokerKey("default", "other")
# A window that passes while a test runs: what must hold longer does not rest on it.
SETTINGS = EventingSettings(lease_s=30.0, duplicate_window_s=0.1)

Open = Callable[[], Awaitable[ClosableLog]]


@pytest.fixture(params=["memory", "jetstream"])
async def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the log; a second call is another process that finds what the first one left."""
    clock = SystemClock()
    if request.param == "memory":
        memory = MemoryLog(SETTINGS, clock)

        async def same() -> ClosableLog:
            await memory.open_broker(BROKER, ["one", "two"])
            await memory.open_broker(OTHER, ["one"])
            return memory

        yield same
        return
    opened: list[JetStreamLog] = []
    async with NatsServer(tmp_path) as nats:

        async def connect() -> ClosableLog:
            opened.append(await JetStreamLog.connect(nats.url, SETTINGS, clock))
            await opened[-1].open_broker(BROKER, ["one", "two"])
            await opened[-1].open_broker(OTHER, ["one"])
            return opened[-1]

        yield connect
        for each in opened:
            await each.close()


@pytest.fixture
async def log(open_log: Open) -> ClosableLog:
    return await open_log()


def event(number: int, **attributes: object) -> CloudEvent:
    given = {"id": str(number), "source": "/s", "type": "t", "knativebrokerttl": 200}
    return CloudEvent.create({**given, **attributes}, b"data\n%d" % number)


async def give_up(log: ClosableLog, envelope: Envelope, trigger: str = "one") -> None:
    """Make a dead letter as the courier does."""
    dead = envelope.event.with_attributes(
        knativeerrordest="http://subscriber/",
        knativeerrorcode=422,
        knativeerrordata=base64.b64encode("not € like this".encode()).decode(),
        deadletterreason="rejected",
    )
    given = Envelope(dead, envelope.headers, envelope.trigger, envelope.redrive)
    await log.bury(BROKER, trigger, given, 5.0)


async def letters(log: ClosableLog, broker: BrokerKey = BROKER, after: int = 0) -> list[Letter]:
    return [each async for each in log.dead_letters.letters(broker, after)]


async def numbers(log: ClosableLog) -> list[int]:
    return [letter.sequence for letter in await letters(log)]


async def delivered(log: ClosableLog, trigger: str) -> list[Envelope]:
    """Everything that waits for a Trigger, settled: all that comes before a last event."""
    found: list[Envelope] = []
    cursor = log.cursor(BROKER, trigger)
    last = f"last-{uuid4()}"
    await log.append(BROKER, Envelope(event(0, id=last, type="last")), 5.0)
    async with asyncio.timeout(60):
        while not found or found[-1].event.id != last:
            for held in await cursor.fetch(1):
                found.append(Envelope.unpack(held.payload))
                await held.settle()
    await cursor.confirm()
    return [each for each in found if each.event.type != "last"]


async def window_passes(log: ClosableLog) -> None:
    """Until the log takes an event a second time, which goes to a Broker of its own."""
    probe = Envelope(event(999))
    await log.append(OTHER, probe, 5.0)
    async with asyncio.timeout(60):
        while not await log.append(OTHER, probe, 5.0):
            await asyncio.sleep(0.02)


class Breaks:
    """A store that fails between the two steps of a redrive, as a process that is killed there."""

    def __init__(self, log: ClosableLog) -> None:
        self.store = log.dead_letters
        self.letters, self.get, self.put_back = (
            self.store.letters,
            self.store.get,
            self.store.put_back,
        )

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        raise StoreUnavailable("killed")


async def test_a_dead_letter_says_what_failed_where_and_why(log: ClosableLog) -> None:
    given = Envelope(event(1, subject="s"), {"x-request-id": "r"})
    await give_up(log, given)
    [letter] = await letters(log)
    assert (letter.broker, letter.trigger, letter.destination) == (
        BROKER,
        "one",
        "http://subscriber/",
    )
    assert (letter.code, letter.reason) == (422, "rejected")
    assert letter.said.decode() == "not € like this"
    assert letter.event == given.event
    assert letter.envelope.headers == given.headers
    assert letter.at.tzinfo is not None
    assert await log.dead_letters.get(BROKER, letter.sequence) == letter


async def test_dead_letters_come_oldest_first_and_after_a_number(log: ClosableLog) -> None:
    for number in (1, 2, 3):
        await give_up(log, Envelope(event(number)))
    assert [letter.event.id for letter in await letters(log)] == ["1", "2", "3"]
    first = (await numbers(log))[0]
    assert [letter.event.id for letter in await letters(log, after=first)] == ["2", "3"]
    assert await letters(log, OTHER) == []


async def test_a_dead_letter_of_several_megabytes_is_read_whole(log: ClosableLog) -> None:
    big = bytes(7 * 1024 * 1024)
    await give_up(log, Envelope(CloudEvent(event(1).attributes, big)))
    [letter] = await letters(log)
    assert letter.event.data == big


async def test_what_is_removed_is_gone_and_its_number_not_given_again(log: ClosableLog) -> None:
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    await log.dead_letters.remove(BROKER, number)
    assert (await numbers(log), log.buried(BROKER)) == ([], 0)
    for act in (log.dead_letters.get, log.dead_letters.remove):
        for gone in (number, number + 1, 10**18):
            with pytest.raises(NoSuchDeadLetter):
                await act(BROKER, gone)
    await give_up(log, Envelope(event(2)))
    assert await numbers(log) == [number + 1]


async def test_a_redriven_event_is_the_event_as_it_was_for_its_trigger_only(
    log: ClosableLog,
) -> None:
    given = Envelope(event(1, subject="s"), {"x-request-id": "r"})
    await give_up(log, given)
    [number] = await numbers(log)
    assert (await redrive(log.dead_letters, BROKER, number)).event == given.event
    [one] = await delivered(log, "one")
    [two] = await delivered(log, "two")
    assert one == two
    assert (one.event, one.headers) == (given.event, given.headers)
    assert (one.trigger, one.redrive) == ("one", number)
    assert (await numbers(log), log.buried(BROKER)) == ([], 0)


async def test_a_redrive_is_not_taken_for_the_event_that_was_stored_before(
    log: ClosableLog,
) -> None:
    assert await log.append(BROKER, Envelope(event(1)), 5.0)
    [first] = await delivered(log, "one")
    await give_up(log, first)
    await redrive(log.dead_letters, BROKER, (await numbers(log))[0])
    assert [each.event.id for each in await delivered(log, "one")] == ["1"]


async def test_redriving_twice_puts_one_event_back(log: ClosableLog) -> None:
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    await redrive(log.dead_letters, BROKER, number)
    with pytest.raises(NoSuchDeadLetter):
        await redrive(log.dead_letters, BROKER, number)
    assert len(await delivered(log, "one")) == 1


async def test_many_at_once_put_one_event_back(log: ClosableLog) -> None:
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    tries = (redrive(log.dead_letters, BROKER, number) for _ in range(8))
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert any(isinstance(each, Letter) for each in done)
    assert all(isinstance(each, Letter | NoSuchDeadLetter) for each in done)
    assert len(await delivered(log, "one")) == 1


async def test_a_kill_between_the_two_steps_duplicates_nothing_even_after_the_window(
    open_log: Open,
) -> None:
    log = await open_log()
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    with pytest.raises(StoreUnavailable):
        await redrive(Breaks(log), BROKER, number)
    assert await numbers(log) == [number]
    assert len(await delivered(log, "one")) == 1
    await window_passes(log)
    await redrive(log.dead_letters, BROKER, number)
    assert await delivered(log, "one") == []
    assert (await numbers(log), log.buried(BROKER)) == ([], 0)


async def test_a_redrive_that_was_cut_off_is_finished_before_its_event_may_be_swept(
    open_log: Open,
) -> None:
    log = await open_log()
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    with pytest.raises(StoreUnavailable):
        await redrive(Breaks(log), BROKER, number)
    for trigger in ("one", "two"):
        assert len(await delivered(log, trigger)) == 1
    for _ in range(2):
        await window_passes(log)
        await log.sweep()
    if number in await numbers(log):
        await redrive(log.dead_letters, BROKER, number)
    assert await delivered(log, "one") == []
    assert await numbers(log) == []


async def test_the_next_process_finishes_a_redrive_that_was_cut_off(open_log: Open) -> None:
    first = await open_log()
    await give_up(first, Envelope(event(1)))
    await give_up(first, Envelope(event(2)))
    [number, kept] = await numbers(first)
    with pytest.raises(StoreUnavailable):
        await redrive(Breaks(first), BROKER, number)
    second = await open_log()
    if number in await numbers(second):
        await redrive(second.dead_letters, BROKER, number)
    assert (await numbers(second), second.buried(BROKER)) == ([kept], 1)
    assert [each.event.id for each in await delivered(second, "one")] == ["1"]


async def test_an_event_that_fails_again_is_a_dead_letter_again_and_can_be_redriven_again(
    log: ClosableLog,
) -> None:
    given = Envelope(event(1))
    await give_up(log, given)
    seen = []
    for _ in range(3):
        [number] = await numbers(log)
        seen.append(number)
        await redrive(log.dead_letters, BROKER, number)
        [again] = await delivered(log, "one")
        assert again.event == given.event
        await give_up(log, again)
        await give_up(log, again)  # as after a crash before the event was settled
    assert seen == sorted(set(seen))
    assert log.buried(BROKER) == 1


async def test_a_dead_letter_is_kept_once_however_late_it_is_made_again(log: ClosableLog) -> None:
    await give_up(log, Envelope(event(1)))
    await window_passes(log)
    await give_up(log, Envelope(event(1)))
    await give_up(log, Envelope(event(1)), "two")
    assert [letter.trigger for letter in await letters(log)] == ["one", "two"]


async def test_a_dead_letter_that_was_put_back_is_not_made_again_of_the_same_failure(
    log: ClosableLog,
) -> None:
    given = Envelope(event(1))
    await give_up(log, given)
    [number] = await numbers(log)
    await redrive(log.dead_letters, BROKER, number)
    await give_up(log, given)  # as after a crash before the event was settled
    await log.sweep()
    assert (await numbers(log), log.buried(BROKER)) == ([], 0)


async def test_replies_with_one_name_through_two_triggers_are_two_dead_letters(
    log: ClosableLog,
) -> None:
    said = CloudEvent.create(event(1).attributes, b"other data")
    came = event(1, knativearrivaltime="2026-01-01T00:00:00.000Z")
    for reply, via in ((event(1), "one"), (said, "two"), (came, "three")):
        assert await log.append(BROKER, Envelope(reply, via=via), 5.0)
    for reply in await delivered(log, "one"):
        await give_up(log, reply)
    assert [letter.event.data for letter in await letters(log)] == [
        event(1).data,
        b"other data",
        event(1).data,
    ]


async def test_without_its_trigger_a_dead_letter_stays_where_it_is(log: ClosableLog) -> None:
    await give_up(log, Envelope(event(1)))
    [number] = await numbers(log)
    await log.open_broker(BROKER, ["two"])
    with pytest.raises(UnknownTrigger):
        await redrive(log.dead_letters, BROKER, number)
    assert await numbers(log) == [number]
    assert await delivered(log, "two") == []


async def test_every_event_is_delivered_dead_or_waiting_after_any_number_of_redrives(
    log: ClosableLog,
) -> None:
    for number in range(20):
        await give_up(log, Envelope(event(number)))
    every = await numbers(log)
    for number in every[:7]:
        await redrive(log.dead_letters, BROKER, number)
    for number in every[7:10]:
        with pytest.raises(StoreUnavailable):
            await redrive(Breaks(log), BROKER, number)
        await redrive(log.dead_letters, BROKER, number)
    waiting = {each.event.id for each in await delivered(log, "one")}
    dead = {letter.event.id for letter in await letters(log)}
    assert waiting == {str(number) for number in range(10)}
    assert dead == {str(number) for number in range(10, 20)}
    assert log.buried(BROKER) == 10
