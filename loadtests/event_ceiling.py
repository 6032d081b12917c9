"""The ceiling: nats-py against nats-server with file storage, nothing of ours in between.

    python event_ceiling.py FOLDER --seconds 5 --fsync interval [--rates 200,1000 --open-seconds 3]

Publishes 1 KiB messages, each acknowledged once it is stored, as many at once as nats-py allows by
default; then fetches and acknowledges them. Prints one JSON object: events per second of both.
For each of --rates it publishes in an open loop while another connection has pull requests open,
and prints the milliseconds from publishing to fetching (`p50_ms RATE`, `p99_ms RATE`).
"""

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import nats
import uvloop
from event_latency import latency
from event_load import DATA
from event_pace import paced
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from relume.eventing.jetstream.server import Fsync, NatsServer

_IN_FLIGHT = 1000
_FETCH = 500
_DIGITS = 9
_DRAINED_WITHIN_S = 60.0


async def publish(jetstream: JetStreamContext, seconds: float) -> tuple[int, float]:
    """(messages stored, in how many seconds)."""
    started = time.perf_counter()
    waiting: deque[asyncio.Future[object]] = deque()
    stored = 0
    while time.perf_counter() - started < seconds:
        waiting.append(await jetstream.publish_async("bench", DATA))
        if len(waiting) >= _IN_FLIGHT:
            await waiting.popleft()
            stored += 1
    await asyncio.gather(*waiting)
    return stored + len(waiting), time.perf_counter() - started


async def consume(jetstream: JetStreamContext, count: int) -> float:
    """Seconds to fetch and acknowledge `count` messages."""
    pull = await jetstream.pull_subscribe("bench", durable="bench")
    started = time.perf_counter()
    left = count
    while left:
        for message in await pull.fetch(min(left, _FETCH), timeout=10):
            await message.ack()
            left -= 1
    await jetstream._nc.flush()
    return time.perf_counter() - started


class Pulled:
    """A consumer whose pull requests are kept open, so that a message comes without a round trip.

    nats-py's own `fetch` asks again for each batch, and would be later.
    """

    def __init__(self, client: Client, count: int) -> None:
        self.arrived = array("d", bytes(8 * count))
        self.all = asyncio.Event()
        self._client = client
        self._left = count
        self._owed = 0

    async def open(self) -> None:
        jetstream = self._client.jetstream()
        await jetstream.add_stream(name="open", subjects=["open"])
        await jetstream.pull_subscribe("open", durable="open")
        await self._client.subscribe("pulled", cb=self._on_message)
        await self._ask()

    async def _ask(self) -> None:
        self._owed += _IN_FLIGHT
        request = b'{"batch":%d,"expires":%d}' % (_IN_FLIGHT, 30 * 10**9)
        await self._client.publish("$JS.API.CONSUMER.MSG.NEXT.open.open", request, "pulled")

    async def _on_message(self, message: Msg) -> None:
        if not message.reply:
            return  # the end of a request
        number = int(message.data[:_DIGITS])
        self.arrived[number] = time.monotonic()
        await self._client.publish(message.reply, b"+ACK")
        self._left -= 1
        self._owed -= 1
        if not self._left:
            self.all.set()
        if self._owed * 2 < _IN_FLIGHT:
            await self._ask()


async def late(url: str, rate: float, seconds: float) -> dict[str, float]:
    """Milliseconds from publishing to fetching at that rate; each message begins with its number.

    Publisher and consumer have a connection each, in this one process.
    """
    publisher, consumer = await nats.connect(url), await nats.connect(url)
    pulled = Pulled(consumer, max(1, round(rate * seconds)))
    await pulled.open()
    jetstream, sent = publisher.jetstream(publish_async_max_pending=_IN_FLIGHT), array("d")
    publishing: set[asyncio.Task[object]] = set()

    def publish(number: int) -> None:
        sent.append(time.monotonic())
        data = b"%0*d" % (_DIGITS, number) + DATA[_DIGITS:]
        task = asyncio.ensure_future(jetstream.publish("open", data))
        publishing.add(task)
        task.add_done_callback(publishing.discard)

    await paced(rate, seconds, publish)
    async with asyncio.timeout(_DRAINED_WITHIN_S):
        await asyncio.gather(*publishing)
        await pulled.all.wait()
    await jetstream.delete_stream("open")
    await publisher.close()
    await consumer.close()
    found = latency(sent, pulled.arrived)
    return {f"p50_ms {rate:g}": found.p50_ms, f"p99_ms {rate:g}": found.p99_ms}


async def measure(
    folder: Path, seconds: float, fsync: Fsync, rates: Sequence[float], open_seconds: float
) -> dict[str, float]:
    async with NatsServer(folder, fsync=fsync) as server:
        found: dict[str, float] = {}
        for rate in rates:
            found |= await late(server.url, rate, open_seconds)
        client = await nats.connect(server.url)
        jetstream = client.jetstream(publish_async_max_pending=_IN_FLIGHT)
        await jetstream.add_stream(name="bench", subjects=["bench"])
        before = time.process_time()
        stored, took_s = await publish(jetstream, seconds)
        consumed_s = await consume(jetstream, stored)
        await client.close()
    return {
        "published_per_s": stored / took_s,
        "consumed_per_s": stored / consumed_s,
        "cpu_s": time.process_time() - before,
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--fsync", default="interval")
    parser.add_argument("--rates", default="", help="events a second, with commas")
    parser.add_argument("--open-seconds", type=float, default=3.0)
    asked = parser.parse_args()
    rates = [float(each) for each in asked.rates.split(",") if each]
    work = measure(asked.folder, asked.seconds, asked.fsync, rates, asked.open_seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(work), sys.stdout)


if __name__ == "__main__":
    main()
