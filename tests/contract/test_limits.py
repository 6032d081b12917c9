"""What every EventLog promises about batches and about being full."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.burial import dead_letter_event
from relume.eventing.delivery.decision import DeadLetter
from relume.eventing.delivery.route import DeliveryPolicy
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerFull, BrokerKey, EventTooLarge
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.plane import ClosableLog
from relume.eventing.settings import MAX_MESSAGE_BYTES, EventingSettings
from relume.eventing.testing import MemoryLog

BROKER = BrokerKey("default", "b")
SETTINGS = EventingSettings(max_log_events=4, max_log_bytes=100_000)


def envelope(number: int, size: int = 10) -> Envelope:
    event = CloudEvent.create({"id": str(number), "source": "/s", "type": "t"}, bytes(size))
    return Envelope(event)


@pytest.fixture(params=["memory", "jetstream"])
async def log(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClosableLog]:
    if request.param == "memory":
        memory = MemoryLog(SETTINGS, SystemClock())
        await memory.open_broker(BROKER, ["one", "two"])
        yield memory
        return
    # A full log is asked again and again here, and need not be protected from that.
    monkeypatch.setattr("relume.eventing.jetstream.log._LOOK_EVERY_S", 0.0)
    async with NatsServer(tmp_path) as nats:
        opened = await JetStreamLog.connect(nats.url, SETTINGS, SystemClock())
        await opened.open_broker(BROKER, ["one", "two"])
        yield opened
        await opened.close()


async def settle(log: ClosableLog, trigger: str, count: int) -> None:
    cursor = log.cursor(BROKER, trigger)
    for _ in range(count):
        [held] = await cursor.fetch(1)
        await held.settle()
    await cursor.confirm()


async def sequences(log: ClosableLog, trigger: str, count: int) -> list[int]:
    cursor, found = log.cursor(BROKER, trigger), list[int]()
    while len(found) < count:
        for held in await cursor.fetch(count - len(found)):
            found.append(held.sequence)
            await held.settle()
    return found


async def test_a_batch_is_stored_in_order_and_each_event_once(log: ClosableLog) -> None:
    first = await log.append_all(BROKER, [envelope(n) for n in (1, 2, 2, 3)], 5.0)
    assert list(first) == [True, True, False, True]
    again = await log.append_all(BROKER, [envelope(n) for n in (1, 2, 3, 4)], 5.0)
    assert list(again) == [False, False, False, True]
    cursor, ids = log.cursor(BROKER, "one"), list[str]()
    while len(ids) < 4:
        ids += [Envelope.unpack(held.payload).event.id for held in await cursor.fetch(4)]
    assert ids == ["1", "2", "3", "4"]
    assert cursor.waiting == 0


async def test_a_batch_larger_than_what_is_under_way_at_once_is_stored_whole(
    log: ClosableLog,
) -> None:
    assert all(await log.append_all(BROKER, [envelope(n) for n in range(1200)], 10.0))
    assert await sequences(log, "two", 1200) == list(range(1, 1201))


async def test_an_empty_batch_stores_nothing(log: ClosableLog) -> None:
    assert list(await log.append_all(BROKER, [], 5.0)) == []
    assert log.cursor(BROKER, "one").waiting == 0


async def test_a_batch_with_an_event_that_does_not_fit_stores_nothing(log: ClosableLog) -> None:
    with pytest.raises(EventTooLarge):
        await log.append_all(BROKER, [envelope(1), envelope(2, MAX_MESSAGE_BYTES)], 5.0)
    assert log.cursor(BROKER, "one").waiting == 0


@pytest.mark.parametrize(
    "fill", [lambda n: envelope(n), lambda n: envelope(n, 26_000)], ids=["events", "bytes"]
)
async def test_a_full_broker_takes_nothing_until_every_trigger_has_settled_some(
    log: ClosableLog, fill: Callable[[int], Envelope]
) -> None:
    for number in range(4):
        await log.admit(BROKER)
        await log.append(BROKER, fill(number), 5.0)
    with pytest.raises(BrokerFull, match="4 events") as full:
        await log.admit(BROKER)
    assert full.value.retryable
    await settle(log, "one", 4)
    with pytest.raises(BrokerFull):
        await log.admit(BROKER)
    await settle(log, "two", 1)
    await log.admit(BROKER)


async def test_a_reply_and_a_dead_letter_have_room_in_a_full_broker(log: ClosableLog) -> None:
    for number in range(4):
        await log.append(BROKER, envelope(number), 5.0)
    with pytest.raises(BrokerFull):
        await log.admit(BROKER)
    assert await log.append(BROKER, envelope(5), 5.0)
    await log.bury(BROKER, "one", envelope(6), 5.0)
    assert log.buried(BROKER) == 1


async def test_the_largest_event_that_is_stored_fits_as_a_dead_letter(log: ClosableLog) -> None:
    size = MAX_MESSAGE_BYTES
    while True:
        size -= 1024
        with contextlib.suppress(EventTooLarge):
            assert await log.append(BROKER, envelope(1, size), 5.0)
            break
    policy = DeliveryPolicy()
    letter = DeadLetter("rejected", 400, b"x" * 64 * 1024)
    url = f"http://subscriber/{'x' * 2_000}"
    event = dead_letter_event(envelope(1, size).event, letter, url, policy.profile)
    await log.bury(BROKER, "one", Envelope(event, {"x-request-id": "1"}), 5.0)
    assert log.buried(BROKER) == 1


async def test_what_was_removed_to_make_room_is_still_known(log: ClosableLog) -> None:
    for number in range(4):
        await log.append(BROKER, envelope(number), 5.0)
    for trigger in ("one", "two"):
        await settle(log, trigger, 4)
    await log.admit(BROKER)
    assert not await log.append(BROKER, envelope(1), 5.0)
