"""The order of a partition key survives the death of nats-server and of the plane.

Real nats-server, real HTTP subscriber, real time.
"""

import asyncio
from collections import defaultdict
from pathlib import Path

from aiohttp import web

from relume.base.clock import SystemClock
from relume.config import Delivery
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BrokerStage, Call, Subscriber, answer, event, trigger

from .test_nats_kills import kill

KEYS = 5
SETTINGS = EventingSettings()
DELIVERY = Delivery(retry=5, backoff_policy="linear", backoff_delay_s=0.01)


class Ordered:
    """A subscriber that fails every seventh event once, and notes what it took, by key."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, list[int]] = defaultdict(list)
        self.failed: set[int] = set()

    @property
    def count(self) -> int:
        return sum(map(len, self.taken.values()))

    @property
    def in_order(self) -> bool:
        return all(line == sorted(line) for line in self.taken.values())

    async def __call__(self, call: Call) -> web.StreamResponse:
        number, key = int(call.event.id), str(call.event.attributes["partitionkey"])
        if number % 7 == 0 and number not in self.failed:
            self.failed.add(number)
            return answer(status=503)
        self.taken[key].append(number)
        return answer()


async def stage_on(server: NatsServer, url: str) -> BrokerStage:
    clock = SystemClock()
    log = await JetStreamLog.connect(server.url, SETTINGS, clock)
    t = trigger("t", url, delivery=DELIVERY, ordered=True)
    return BrokerStage([t], settings=SETTINGS, clock=clock, log=log)


async def post(stage: BrokerStage, number: int) -> None:
    """What a producer does: send again until somebody says 202."""
    sent = event(str(number), partitionkey=str(number % KEYS))
    while (await stage.post(sent)).status_code != 202:
        await asyncio.sleep(0.05)


async def test_events_of_a_key_keep_their_order_through_kills_of_the_log(tmp_path: Path) -> None:
    ordered, count = Ordered(), 200
    async with (
        Subscriber(ordered) as asked,
        NatsServer(tmp_path) as server,
        await stage_on(server, asked.url) as stage,
    ):

        async def produce() -> None:
            for number in range(count):
                await post(stage, number)

        producing = asyncio.create_task(produce())
        for _ in range(3):
            async with asyncio.timeout(60):
                before = ordered.count
                while ordered.count < min(before + 20, count):
                    await asyncio.sleep(0.001)
            await kill(server)
        await producing
        async with asyncio.timeout(60):
            while ordered.count < count:
                await asyncio.sleep(0.01)
    assert ordered.in_order
    assert {number for line in ordered.taken.values() for number in line} == set(range(count))


async def test_the_next_process_does_not_overtake_the_last_one(tmp_path: Path) -> None:
    ordered = Ordered()

    async def hangs(call: Call) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with Subscriber(*[hangs] * KEYS, ordered) as asked:
        async with NatsServer(tmp_path) as server:
            stage = await stage_on(server, asked.url)
            await stage.__aenter__()
            for number in range(20):
                await post(stage, number)
            await stage.until("delivering", KEYS)
            await stage.plane.stop(0)
        async with NatsServer(tmp_path) as server, await stage_on(server, asked.url) as again:
            for number in range(20, 40):
                await post(again, number)
            async with asyncio.timeout(60):
                while ordered.count < 40:
                    await asyncio.sleep(0.01)
    assert ordered.taken == {str(k): list(range(k, 40, KEYS)) for k in range(KEYS)}
