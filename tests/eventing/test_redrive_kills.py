"""A redrive on JetStream that is cut off at every request it makes, before and after it is sent."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from relume.base.clock import SystemClock
from relume.cloudevents.event import CloudEvent
from relume.eventing.dead_letters import redrive
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings

BROKER, PROBED = BrokerKey("default", "b"), BrokerKey("default", "probed")
# Short, and passed in the test: nothing rests on nats-server's own memory of what it has stored.
SETTINGS = EventingSettings(lease_s=30.0, duplicate_window_s=0.1)
When = Literal["before", "after"]


class Clock(SystemClock):
    """The machine's own, and on request later: what is stored gets old at once."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


CLOCK = Clock()


class Killed(Exception):
    """The process ends here."""


class Process:
    """A log that dies at its n-th request: before it goes out, or once it was carried out."""

    def __init__(self, log: JetStreamLog, fatal: int, when: When) -> None:
        self.requests = 0
        self._send = log.requests.send_all
        self._fatal, self._when = fatal, when
        log.requests.send_all = self._count  # type: ignore[method-assign]

    async def _count(self, *args: Any, **more: Any) -> Any:
        self.requests += 1
        dies = self.requests == self._fatal
        if dies and self._when == "before":
            raise Killed
        answer = await self._send(*args, **more)
        if dies:
            raise Killed
        return answer


async def start(nats: NatsServer) -> JetStreamLog:
    log = await JetStreamLog.connect(nats.url, SETTINGS, CLOCK)
    await log.open_broker(BROKER, ["t"])
    await log.open_broker(PROBED, [])
    return log


def event(id_: str) -> Envelope:
    return Envelope(CloudEvent.create({"id": id_, "source": "/s", "type": "t"}, b"{}"))


async def delivered(log: JetStreamLog, last: str) -> list[str]:
    """The ids of everything that waits, settled: all that comes before a last event."""
    await log.append(BROKER, event(last), 5.0)
    ids: list[str] = []
    async with asyncio.timeout(60):
        while last not in ids:
            for held in await log.cursor(BROKER, "t").fetch(1):
                ids.append(Envelope.unpack(held.payload).event.id)
                await held.settle()
    await log.cursor(BROKER, "t").confirm()
    return ids[:-1]


async def window_passes(log: JetStreamLog) -> None:
    """Until nats-server has forgotten what it stored: it takes the same event again."""
    await log.append(PROBED, event("probe"), 5.0)
    async with asyncio.timeout(60):
        while not await log.append(PROBED, event("probe"), 5.0):
            await asyncio.sleep(0.02)


async def numbers(log: JetStreamLog) -> list[int]:
    return [letter.sequence async for letter in log.dead_letters.letters(BROKER)]


async def cut_off(nats: NatsServer, id_: str, fatal: int, when: When) -> bool:
    """Whether a redrive of a new dead letter was cut off there."""
    log = await start(nats)
    await log.bury(BROKER, "t", event(id_), 5.0)
    [number] = await numbers(log)
    Process(log, fatal, when)
    try:
        await redrive(log.dead_letters, BROKER, number)
    except Killed:
        return True
    finally:
        await log.close()
    return False


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_wherever_it_is_cut_off_the_event_goes_through_once(
    tmp_path: Path, when: When, swept: bool
) -> None:
    """`swept`: the next process delivers and sweeps before somebody redrives again."""
    points = 0
    async with NatsServer(tmp_path) as nats:
        while await cut_off(nats, id_ := f"e{points}", points + 1, when):
            points += 1
            log = await start(nats)
            seen = await delivered(log, f"first-{points}") if swept else []
            for _ in range(2 * swept):
                await log.sweep()
                CLOCK.ahead_s += 1.0
            await window_passes(log)
            for number in await numbers(log):
                await redrive(log.dead_letters, BROKER, number)
            seen += await delivered(log, f"last-{points}")
            assert seen == [id_], f"killed {when} request {points}"
            assert (await numbers(log), log.buried(BROKER)) == ([], 0)
            await log.close()
    assert points >= 3  # read, store, remove
