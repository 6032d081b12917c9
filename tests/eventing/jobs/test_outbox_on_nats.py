"""The outbox over the store on nats-server: killed and restarted, each event reaches its sink."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from relume.base.clock import SystemClock
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.outbox import Outbox
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.store import Outrun
from relume.eventing.settings import EventingSettings

from .test_settled_events import record, result_url

JOBS = 300
SETTINGS = EventingSettings(lease_s=2.0, heartbeat_s=0.5)


class Sink:
    """Refuses every seventh post, and takes the others."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.sources: dict[str, CloudEvent] = {}
        self.posts = 0

    async def post(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        self.posts += 1
        await asyncio.sleep(0.002)
        if self.posts % 7 == 0:
            return Unanswered("refused")
        event = envelope.event
        assert self.sources.setdefault(event.id, event) == event  # a repetition is the same event
        self.taken[event.id] += 1
        return Answered(202)


async def settle_all(store: JetStreamJobs) -> None:
    for number in range(JOBS):
        request = {**(record().event or {}), "id": str(number)}
        told = {"event": request, "reply_to": "http://sink/", "settled_at": SystemClock().now()}
        made = record("dead", id=f"job_{number}", **told)
        while True:
            with suppress(StoreUnavailable):
                with suppress(Outrun):  # it was written, and only the answer was lost
                    await store.write(made, 0)
                break


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not there():
            await asyncio.sleep(0.05)


async def test_each_event_reaches_its_sink_through_kills_of_outbox_and_server(
    tmp_path: Path,
) -> None:
    sink, clock, settings = Sink(), SystemClock(), JobSettings(lease_s=2.0, heartbeat_s=0.5)
    async with NatsServer(tmp_path) as server:
        writing = await JetStreamJobs.connect([server.url], settings, clock)
        settling = asyncio.create_task(settle_all(writing))
        for process in range(4):
            store = await JetStreamJobs.connect([server.url], settings, clock)
            sinks = Sinks(clock, usage="http://usage/")
            outbox = Outbox(store, sinks, None, sink.post, result_url, clock, SETTINGS)
            await outbox.open()
            running = asyncio.create_task(outbox.run())
            if process < 3:
                goal = min(len(sink.taken) + JOBS // 3, 2 * JOBS)
                await until(lambda goal=goal: len(sink.taken) >= goal)  # type: ignore[misc]
                if process == 1:
                    assert server.pid is not None
                    os.kill(server.pid, signal.SIGKILL)
                    await asyncio.sleep(0.3)
            else:
                await until(lambda: len(sink.taken) == 2 * JOBS)
                await settling
                await asyncio.sleep(3)  # longer than a lease: nothing comes again
            running.cancel()
            await asyncio.wait([running])
            await store.close()
        await writing.close()
    kinds = Counter(event.type for event in sink.sources.values())
    assert kinds == {"relume.inference.usage": JOBS, "relume.inference.error": JOBS}
    # What was under way at a kill comes again, and little else.
    assert sum(sink.taken.values()) < 3 * JOBS
