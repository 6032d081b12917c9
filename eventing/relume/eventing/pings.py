"""PingSources at work: at every time of the schedule one event enters a log.

The id of an event is its time, so a time has one event however often a process begins anew. Times
that pass while no process runs are not made up for, and of those that pass while the machine sleeps
one comes late: this is what Knative's adapter does (knative/eventing `pkg/adapter/mtping`, with
robfig/cron v3). It also waits up to half a second before each event; here none waits.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from relume.base.clock import Clock
from relume.base.vocabulary import PING
from relume.cloudevents.event import AttributeValue, CloudEvent, InvalidEvent, rfc3339
from relume.config import PingSource
from relume.config.schedules import Schedule
from relume.eventing.envelope import Envelope, coming_in
from relume.eventing.event_log import (
    BrokerFull,
    BrokerKey,
    DiskFull,
    EventLog,
    EventTooLarge,
    StoreUnavailable,
)
from relume.eventing.header_room import AttributesTooLong

log = logging.getLogger(__name__)

# The wall clock is looked at again after so long, because it may be set, and the machine may sleep.
_LOOK_EVERY_S = 30.0
_LOST = (
    BrokerFull,
    DiskFull,
    EventTooLarge,
    StoreUnavailable,
    InvalidEvent,
    AttributesTooLong,
)
# Called with what was stored, and whether it was new.
Count = Callable[[BrokerKey, Sequence[CloudEvent], Sequence[bool]], None]


class Ping:
    """One PingSource, whose events enter `target`; `run` belongs into a task of its own."""

    def __init__(
        self,
        source: PingSource,
        target: BrokerKey,
        events: EventLog,
        count: Count,
        clock: Clock,
        patience_s: float,
    ) -> None:
        self._source = source
        self._target = target
        self._events = events
        self._count = count
        self._clock = clock
        self._patience_s = patience_s
        self._schedule = Schedule(source.schedule, source.timezone)
        self._sending = self._ended = False

    async def run(self) -> None:
        """Work until cancelled, or until no time of the schedule is left."""
        while not self._ended and (due := self._schedule.after(self._clock.now())) is not None:
            while (left_s := (due - self._clock.now()).total_seconds()) > 0:
                await self._clock.sleep(min(left_s, _LOOK_EVERY_S))
            self._sending = True
            await self._send(due)
            self._sending = False

    def end(self, task: asyncio.Task[None]) -> None:
        """End the task that runs this, but not while an event is being stored."""
        self._ended = True
        if not self._sending:
            task.cancel()

    async def _send(self, due: datetime) -> None:
        """Store the event; where that is not possible, it is lost and told, as on a cluster."""
        try:
            event = ping_event(self._source, due)
            await self._events.admit(self._target)
            envelope = Envelope(coming_in(event, self._clock.now()))
            new = await self._events.append(self._target, envelope, self._patience_s)
        except _LOST as error:
            name = f"{self._source.namespace}/{self._source.name}"
            log.warning("PingSource %s: the event of %s is lost: %s", name, rfc3339(due), error)
            return
        self._count(self._target, [event], [new])


class Pings:
    """The PingSources of a plan at work; one that stays as it is notices no change of the plan."""

    def __init__(self, ping: Callable[[PingSource, BrokerKey], Ping]) -> None:
        """ping: makes the Ping of a source and of the log that its events enter."""
        self._ping = ping
        self._wanted: Sequence[tuple[PingSource, BrokerKey]] = ()
        self._running: list[tuple[PingSource, BrokerKey, Ping, asyncio.Task[None]]] = []
        self._group: asyncio.TaskGroup | None = None

    def run(self, group: asyncio.TaskGroup) -> None:
        """Begin; every source that comes later begins at once."""
        self._group = group
        self.take(self._wanted)

    def take(self, sources: Sequence[tuple[PingSource, BrokerKey]]) -> None:
        """Run these from now on; the others send the event that is due, and end."""
        self._wanted = sources
        if self._group is None:
            return
        before, self._running = self._running, []
        for source, target in sources:
            same = next((each for each in before if each[:2] == (source, target)), None)
            if same is None:
                ping = self._ping(source, target)
                task = self._group.create_task(ping.run())
                same = source, target, ping, task
            else:
                before.remove(same)
            self._running.append(same)
        for _, _, ping, task in before:
            ping.end(task)

    def stop(self) -> None:
        """Send nothing more."""
        for _, _, _, task in self._running:
            task.cancel()


def ping_event(source: PingSource, due: datetime) -> CloudEvent:
    """The event of one time (knative/eventing `pkg/adapter/mtping/runner.go`)."""
    at = rfc3339(due)
    attributes: dict[str, AttributeValue | None] = {
        "id": at,
        "source": f"/apis/v1/namespaces/{source.namespace}/pingsources/{source.name}",
        "type": PING,
        "time": at,
        **source.extensions,
    }
    if source.data is not None and source.content_type is not None:
        attributes["datacontenttype"] = source.content_type
    return CloudEvent.create(attributes, source.data)
