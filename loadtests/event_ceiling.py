"""The ceiling: nats-py against nats-server with file storage, nothing of ours in between.

    python event_ceiling.py FOLDER --seconds 5 --fsync interval

Publishes 1 KiB messages, each acknowledged once it is stored, as many at once as nats-py allows by
default; then fetches and acknowledges them. Prints one JSON object: events per second of both.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path

import nats
import uvloop
from event_load import DATA
from nats.js import JetStreamContext

from relume.eventing.jetstream.server import Fsync, NatsServer

_IN_FLIGHT = 1000
_FETCH = 500


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


async def measure(folder: Path, seconds: float, fsync: Fsync) -> dict[str, float]:
    async with NatsServer(folder, fsync=fsync) as server:
        client = await nats.connect(server.url)
        jetstream = client.jetstream(publish_async_max_pending=_IN_FLIGHT)
        await jetstream.add_stream(name="bench", subjects=["bench"])
        stored, took_s = await publish(jetstream, seconds)
        consumed_s = await consume(jetstream, stored)
        await client.close()
    return {
        "published_per_s": stored / took_s,
        "consumed_per_s": stored / consumed_s,
        "cpu_s": time.process_time(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--fsync", default="interval")
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(measure(asked.folder, asked.seconds, asked.fsync)), sys.stdout)


if __name__ == "__main__":
    main()
