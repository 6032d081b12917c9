"""What only the durable log has: a restart, a clean-up, and a server that is not there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.base.testing import VirtualClock
from relume.eventing.dead_letters import redrive
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import LeasedEvent, StoreUnavailable
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BROKER, event

SETTINGS = EventingSettings()


def envelope(number: int) -> Envelope:
    return Envelope(event(str(number), b"x"))


async def fetch(log: JetStreamLog, trigger: str, count: int) -> list[LeasedEvent]:
    """Exactly `count` events, which may come one by one."""
    held: list[LeasedEvent] = []
    async with asyncio.timeout(60):
        while len(held) < count:
            held += await log.cursor(BROKER, trigger).fetch(count - len(held))
    return held


async def kept(log: JetStreamLog) -> int:
    info = await log.jetstream.stream_info("broker_default_b")
    return info.state.messages


async def test_a_sweep_removes_what_everybody_settled_once_no_duplicate_can_come(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, clock)
        await log.open_broker(BROKER, ["fast", "slow"])
        for number in range(4):
            await log.append(BROKER, envelope(number), 5.0)
        for trigger, settled in (("fast", 4), ("slow", 2)):
            for held in (await fetch(log, trigger, 4))[:settled]:
                await held.settle()
            await log.cursor(BROKER, trigger).confirm()
        await log.sweep()
        assert await kept(log) == 4
        await clock.advance(SETTINGS.duplicate_window_s / 2)
        await log.append(BROKER, envelope(4), 5.0)
        await log.sweep()
        assert await kept(log) == 5
        await clock.advance(SETTINGS.duplicate_window_s / 2)
        await log.sweep()
        assert await kept(log) == 3  # the slow Trigger holds two, and one is new
        await log.close()


async def test_the_last_of_many_triggers_keeps_its_events_and_its_place(tmp_path: Path) -> None:
    triggers = [f"t{number:03}" for number in range(260)]  # nats-server lists 256 at a time
    clock = VirtualClock()
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, clock)
        await log.open_broker(BROKER, triggers)
        await log.append(BROKER, envelope(1), 5.0)
        for trigger in triggers[:-1]:
            [held] = await log.cursor(BROKER, trigger).fetch(1)
            await held.settle()
            await log.cursor(BROKER, trigger).confirm()
        await log.sweep()
        await clock.advance(SETTINGS.duplicate_window_s)
        await log.sweep()
        assert await kept(log) == 1
        await log.close()
        again = await JetStreamLog.connect(server.url, SETTINGS, clock)
        await again.open_broker(BROKER, triggers)
        assert [again.cursor(BROKER, each).waiting for each in triggers[-2:]] == [0, 1]
        await again.close()


async def test_what_goes_with_a_trigger_that_is_gone_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with NatsServer(tmp_path) as server:
        for triggers in (["kept", "idle"], ["kept", "busy.one"], ["kept"]):
            log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
            await log.open_broker(BROKER, triggers)
            await log.append(BROKER, envelope(len(triggers[-1])), 5.0)
            if "idle" in triggers:
                [held] = await log.cursor(BROKER, "idle").fetch(1)
                await held.settle()
                await log.cursor(BROKER, "idle").confirm()
            await log.close()
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said == [
        "broker_default_b: Trigger busy.one is gone, and 1 events go with it that waited for it"
    ]


async def test_a_restarted_server_still_knows_what_it_stored(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        assert await log.append(BROKER, envelope(1), 5.0)
        [held] = await log.cursor(BROKER, "t").fetch(1)
        await held.settle()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        # Nobody waits for the restart but `append` itself.
        assert await log.append(BROKER, envelope(1), 60.0) is False
        assert await log.append(BROKER, envelope(2), 60.0) is True
        await log.close()


async def test_a_dead_letter_that_was_removed_stays_removed_through_a_kill(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        for number in range(100):
            await log.bury(BROKER, "t", envelope(number), 5.0)
        for number in range(1, 100):
            await log.dead_letters.remove(BROKER, number)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await log.append(BROKER, envelope(1), 60.0)  # waits for the restart
        assert [each.sequence async for each in log.dead_letters.letters(BROKER)] == [100]
        await log.close()


async def test_a_dead_letter_that_was_put_back_is_not_made_again_through_a_kill(
    tmp_path: Path,
) -> None:
    """The event that it was made of is settled last: killed before that, it comes once more."""
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        await log.bury(BROKER, "t", envelope(1), 5.0)
        await redrive(log.dead_letters, BROKER, 1)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await log.bury(BROKER, "t", envelope(1), 60.0)  # waits for the restart
        await log.sweep()
        assert [each async for each in log.dead_letters.letters(BROKER)] == []
        assert log.buried(BROKER) == 0
        [held] = await log.cursor(BROKER, "t").fetch(10)
        assert Envelope.unpack(held.payload).redrive == 1
        await log.close()


async def test_a_sweep_without_anything_to_remove_leaves_the_index_of_the_log(
    tmp_path: Path,
) -> None:
    """Without it the next start of nats-server reads the whole log."""
    clock = VirtualClock()
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, clock)
        await log.open_broker(BROKER, ["t"])
        for number in range(3):
            await log.append(BROKER, envelope(number), 5.0)
        [held] = await log.cursor(BROKER, "t").fetch(1)
        await held.settle()
        await log.cursor(BROKER, "t").confirm()
        for _ in range(4):
            await log.sweep()
            await clock.advance(SETTINGS.duplicate_window_s)
        assert await kept(log) == 2
        await log.close()
        assert list(tmp_path.rglob("broker_default_b/msgs/index.db"))


async def test_a_batch_through_a_kill_is_stored_whole_and_once(tmp_path: Path) -> None:
    count = 4000
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        batch = [envelope(number) for number in range(count)]
        storing = asyncio.create_task(log.append_all(BROKER, batch, 60.0))
        while await kept(log) == 0:
            await asyncio.sleep(0)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert len(await storing) == count
        assert await kept(log) == count
        assert not any(await log.append_all(BROKER, batch, 60.0))
        await log.close()


async def test_many_batches_for_a_server_that_is_gone_fail_together(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
    async with asyncio.timeout(30):  # one after another they would take 100 s
        batches = (log.append_all(BROKER, [envelope(1), envelope(2)], 0.5) for _ in range(200))
        failed = await asyncio.gather(*batches, return_exceptions=True)
    assert {type(each) for each in failed} == {StoreUnavailable}
    await log.close()


async def test_a_server_that_stays_away_is_an_error_after_the_patience(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
    with pytest.raises(StoreUnavailable, match="not stored") as failed:
        await log.append(BROKER, envelope(1), 0.3)
    assert failed.value.retryable
    waiting = asyncio.ensure_future(log.cursor(BROKER, "t").fetch(1))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await log.cursor(BROKER, "t").stop()
        await log.cursor(BROKER, "t").confirm()
        waiting.cancel()
        await log.close()


async def test_nobody_to_connect_to_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.eventing.jetstream.log._CONNECT_WITHIN_S", 0.3)
    async with NatsServer(tmp_path) as server:
        url = server.url
    with pytest.raises(StoreUnavailable, match="nats-server does not answer"):
        await JetStreamLog.connect(url, SETTINGS, SystemClock())


async def test_many_events_at_once_are_fetched_in_order_with_few_requests(tmp_path: Path) -> None:
    count = 500
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        await asyncio.gather(*(log.append(BROKER, envelope(n), 5.0) for n in range(count)))
        cursor = log.cursor(BROKER, "t")
        sequences: list[int] = []
        while len(sequences) < count:
            for held in await cursor.fetch(50):
                sequences.append(held.sequence)
                await held.settle()
        assert sequences == list(range(1, count + 1))
        await cursor.confirm()
        info = await log.jetstream.consumer_info("broker_default_b", "t")
        assert info.num_ack_pending == 0
        await log.close()


async def test_large_events_are_fetched_ahead_by_bytes_and_all_of_them_come(tmp_path: Path) -> None:
    size, count = 7 * 2**20, 12
    async with NatsServer(tmp_path) as server:
        log = await JetStreamLog.connect(server.url, SETTINGS, SystemClock())
        await log.open_broker(BROKER, ["t"])
        cursor = log.cursor(BROKER, "t")
        for number in range(count):
            await log.append(BROKER, Envelope(event(str(number), bytes(size))), 5.0)
        seen: list[int] = []
        async with asyncio.timeout(60):
            while len(seen) < count:
                held = await cursor.fetch(100)
                await asyncio.sleep(0.1)  # what is on its way comes
                ahead = log.cursor(BROKER, "t")._received
                assert (len(held) + len(ahead)) * size <= 5 * 2**20 * 8
                for each in held:
                    seen.append(each.sequence)
                    await each.settle()
        assert seen == list(range(1, count + 1))
        await log.close()
