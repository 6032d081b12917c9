"""A plane with one Broker and one Trigger, whose page has an hour of history from the start.

    python page_plane.py STATE SUBSCRIBER_URL

The hour is made up, because nobody waits for it: every sample is as full as those of 10 services, a
Broker and a Trigger under load.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import orjson
import uvloop

from relume.config import Broker, Destination, Plan, Trigger
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.page import feed, history
from relume.runtimes.models.store import ModelStore

SERVICES = 10


class FullHistory(history.History):
    """An hour in which much has happened."""

    def __init__(self) -> None:
        super().__init__()
        now = time.time()
        for number in range(history.KEPT):
            at = round(now - (history.KEPT - number) * history.EVERY_S)
            services = {
                f"s:default/model-{n}": [
                    (number + n) % 3,
                    number % 7,
                    number % 2,
                    900 + number % 99,
                ]
                for n in range(SERVICES)
            }
            events = {
                "b:bench/b": [2500 - number % 50, 0],
                "t:bench/t": [2500 - number % 40, 0, 0, 9],
            }
            self.add(orjson.dumps([at, services | events]))


async def serve(state: Path, subscriber: str) -> None:
    feed.History = FullHistory  # type: ignore[misc]
    trigger = Trigger("bench", "t", "b", Destination(uri=subscriber))
    plan = Plan(brokers=(Broker("bench", "b"),), triggers=(trigger,))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = PlaneSettings(state, 0, 0, template=False, grace_s=2.0)
    async with LocalPlane(plan, settings, ModelStore(state / "models")).running():
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), sys.argv[2]))
