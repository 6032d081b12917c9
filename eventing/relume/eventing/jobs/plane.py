"""Jobs at work in one process: their store, a dispatcher for each service, the outbox, the doors.

`relume up` and `relume gateway` both run this. Nothing of a job is kept here: any number of
processes may run it beside one NATS cluster, and each may end at any time.

It is started from the bottom up (store, queues, outbox, then the doors), and stopped the other way
round: nothing new is accepted, what runs may end within the grace, what does not is given back and
goes on elsewhere, and what was settled is published.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.clock import Clock, SystemClock
from relume.eventing.delivery.courier import Subscribers
from relume.eventing.event_log import EventLog, StoreUnavailable
from relume.eventing.jobs.admission import Admission
from relume.eventing.jobs.api import JobsApi
from relume.eventing.jobs.caller import Caller
from relume.eventing.jobs.dataref import Datarefs
from relume.eventing.jobs.door import Door, Resolve
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.estimates import Estimates
from relume.eventing.jobs.events_door import EVENTS_PATH, EventsDoor
from relume.eventing.jobs.front import JobsFront
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.noticing import noticing
from relume.eventing.jobs.outbox import Outbox
from relume.eventing.jobs.outlook import Outlook
from relume.eventing.jobs.payloads import ResultUrl
from relume.eventing.jobs.predictor import Predictors
from relume.eventing.jobs.queue_clock import QueueClock
from relume.eventing.jobs.queues import Queue, Workplace
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobStore, Lane
from relume.eventing.jobs.watching import Watches
from relume.eventing.settings import EventingSettings

log = logging.getLogger(__name__)

_COUNT_S = 1.0
# What is published after the last job has ended, before the process does.
_PUBLISH_S = 2.0


class ClosableJobs(JobStore, Protocol):
    """A JobStore with a connection that somebody must close."""

    @property
    def inline_bytes(self) -> int:
        """The largest body that may travel with its job or its record, here and now."""
        ...

    async def close(self) -> None: ...


OpenJobs = Callable[[], Awaitable[ClosableJobs]]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the program around the jobs knows: where predictors are, and what they do.

    `service_url` is the predictor's URL, without a slash at the end. `resolve` finds the service of
    a request. `concurrency` is how many requests a predictor takes at once (None: not known).
    `awake` says whether it runs, `phase` which phase of its cold start it is in, `ready_in_s` how
    many seconds are left of it, `cold_start_ms` how long one takes.
    """

    service_url: Callable[[ServiceName], str]
    resolve: Resolve
    result_url: ResultUrl
    concurrency: Callable[[ServiceName], int | None] = lambda _: None
    awake: Callable[[ServiceName], bool] = lambda _: True
    phase: Callable[[ServiceName], str | None] = lambda _: None
    ready_in_s: Callable[[ServiceName], float | None] = lambda _: None
    cold_start_ms: Callable[[ServiceName], float | None] = lambda _: None


class JobsPlane:
    """Start it, serve `front`, stop it.

    `sinks` is where answers to events go, and `letters` the log that keeps what no sink took.
    `operators` are the owners who may pause, resume and purge queues; where everybody may call,
    everybody may. `noticed` gets each record that this process has written.
    """

    def __init__(
        self,
        services: Sequence[ServiceName],
        open_jobs: OpenJobs,
        neighbours: Neighbours,
        sinks: Sinks,
        front: JobsFront,
        *,
        letters: EventLog | None = None,
        settings: JobSettings | None = None,
        limits: DoorSettings | None = None,
        eventing: EventingSettings | None = None,
        clock: Clock | None = None,
        datarefs: Datarefs | None = None,
        operators: Collection[str] = (),
        noticed: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self._services = tuple(services)
        self._open_jobs = open_jobs
        self._neighbours = neighbours
        self._sinks = sinks
        self._front = front
        self._letters = letters
        self._settings = settings or JobSettings()
        self._limits = limits or DoorSettings()
        self._eventing = eventing or EventingSettings()
        self._clock = clock or SystemClock()
        self._datarefs = datarefs
        self._operators = frozenset(operators)
        self._noticed = noticed
        self._estimates = Estimates(neighbours.cold_start_ms)
        self._queues: dict[ServiceName, Queue] = {}
        self._exits = contextlib.AsyncExitStack()
        self._runner: asyncio.Task[None] | None = None
        self._closed = False
        self._group: asyncio.TaskGroup | None = None
        self._place: Workplace
        self._store: ClosableJobs
        self._outbox: Outbox
        self._watches: Watches

    async def start(self) -> None:
        """Open the store and begin to work. Raises RelumeError; then nothing runs."""
        async with contextlib.AsyncExitStack() as stack:
            self._store = await self._open_jobs()
            stack.push_async_callback(self._store.close)
            self._settings = _fitting(self._settings, self._store.inline_bytes)
            predictors = await stack.enter_async_context(Predictors())
            sending = await stack.enter_async_context(Subscribers(self._eventing.max_event_bytes))
            if self._datarefs is not None:
                await stack.enter_async_context(self._datarefs)
            watched = noticing(self._store, self._on_record)
            place = Workplace(watched, predictors, self._clock, self._settings, _worker())
            self._queues = {each: self._queue(each, place) for each in self._services}
            self._outbox = Outbox(
                self._store,
                self._sinks,
                self._letters,
                sending.post,
                self._neighbours.result_url,
                self._clock,
                self._eventing,
            )
            await self._outbox.open()
            self._exits = stack.pop_all()
        self._place = place
        self._runner = asyncio.create_task(self._run(watched), name="jobs-plane")
        self._runner.add_done_callback(self._on_end)
        self._watches = Watches(self._store, self._clock)
        self._front.open(self._app(watched))

    def add(self, service: ServiceName) -> None:
        """Take jobs for one more service from now on; nothing where it is known, or all stops."""
        if service in self._queues or self._closed or self._group is None:
            return
        queue = self._queues[service] = self._queue(service, self._place)
        self._services = (*self._services, service)
        self._group.create_task(queue.dispatcher.run())

    def _queue(self, service: ServiceName, place: Workplace) -> Queue:
        url = self._neighbours.service_url(service)
        return Queue(service, url, partial(self._at_once, service), place)

    async def wait(self) -> None:
        """Return when it has stopped. Raises what it failed with, if it did."""
        if self._runner is not None:
            await asyncio.wait([self._runner])
            if not self._runner.cancelled():
                self._runner.result()

    def close(self) -> None:
        """Accept nothing more, and send away who waits for an answer."""
        self._closed = True
        self._front.close("jobs are not served any more: this process stops")
        if self._runner is not None:
            self._watches.close()

    async def stop(self, grace_s: float) -> None:
        """Accept no more, let jobs end within `grace_s`, give the others back.

        Cancelled, it gives all of them back at once.
        """
        self.close()
        queues = [queue.dispatcher for queue in self._queues.values()]
        try:
            async with asyncio.TaskGroup() as group:
                for dispatcher in queues:
                    group.create_task(dispatcher.stop(grace_s))
            if self._runner is not None:
                await self._outbox.stop(_PUBLISH_S)
        finally:
            if self._runner is not None:
                self._runner.cancel()
                await asyncio.wait([self._runner])
            await asyncio.gather(*(dispatcher.confirm() for dispatcher in queues))
            await self._exits.aclose()

    async def ready(self) -> bool:
        """Whether jobs are served, and the store answers within two seconds."""
        if self._runner is None or self._closed:
            return False
        try:
            async with asyncio.timeout(2.0):
                await self._store.paused()
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    def status(self) -> dict[str, object]:
        """JSON types only: `queues`, one for each service, and `unpublished` settled jobs."""
        started = self._runner is not None
        return {
            "queues": [queue.status() for queue in self._queues.values()],
            "unpublished": self._outbox.waiting if started else 0,
        }

    # ---- the doors

    def _app(self, store: JobStore) -> ASGIApp:
        admit = Admission(self._queues.get, self._estimates, self._settings)
        door = Door(
            self._front.behind,
            store,
            self._neighbours.resolve,
            self._watches,
            self._clock,
            settings=self._settings,
            limits=self._limits,
            admit=admit,
        )
        events = EventsDoor(
            store,
            self._queues.__contains__,
            self._sinks.reply_to,
            self._clock,
            settings=self._settings,
            limits=self._limits,
            eventing=self._eventing,
            admit=admit,
            datarefs=self._datarefs,
        )
        api = JobsApi(
            store,
            self._watches,
            self._clock,
            lambda: self._services,
            outlook=Outlook(self._starts_in, self._neighbours.phase, self._neighbours.ready_in_s),
            admit=admit,
            running=store.running,
            publishes=self._outbox.publishes,
            operates=self._operates,
            stopped=self._pause,
        )

        def route(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            for_events = scope["type"] == "http" and _is_below(EVENTS_PATH, scope["path"])
            return (events if for_events else door)(scope, receive, send)

        return api.in_front_of(route)

    def _operates(self, caller: Caller) -> bool:
        return caller.owner == "" or caller.owner in self._operators

    async def _pause(self, service: ServiceName, paused: bool) -> None:
        if (queue := self._queues.get(service)) is not None:
            await queue.cursor.pause(paused)

    def _starts_in(self, service: ServiceName, ahead: int) -> float | None:
        queue = self._queues.get(service)
        if queue is None or queue.cursor.paused:
            return None
        awake = self._neighbours.awake(service)
        slots = queue.slots
        # Jobs that this process holds and that wait here for a slot are in front of all others.
        held = max(0, queue.dispatcher.in_flight - (slots.size - slots.free))
        return self._estimates.starts_in_s(
            service, held + ahead, free=slots.free, slots=slots.size, awake=awake
        )

    # ---- the work

    async def _run(self, store: JobStore) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            for queue in self._queues.values():
                group.create_task(queue.dispatcher.run())
            group.create_task(self._outbox.run())
            group.create_task(QueueClock(store, self._to_watch, self._clock).run())
            group.create_task(self._count())

    def _to_watch(self) -> Mapping[Lane, int]:
        """The lanes in which jobs wait, as the queues have counted last."""
        every = (queue.cursor.to_watch for queue in self._queues.values())
        return {lane: waiting for counts in every for lane, waiting in counts.items()}

    async def _count(self) -> None:
        """Tell the estimates how long each queue is."""
        while True:
            await self._clock.sleep(_COUNT_S)
            now = self._clock.monotonic()
            for service, queue in self._queues.items():
                self._estimates.counted(service, now, queue.cursor.waiting)

    def _on_record(self, record: Record) -> None:
        queue = self._queues.get(record.service)
        if record.settled and queue is not None:
            now = self._clock.monotonic()
            self._estimates.settled(record, now, queue.cursor.waiting)
        self._noticed(record)

    def _on_end(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (error := runner.exception()):
            # No job is run any more, so none may be accepted.
            self.close()
            log.critical("jobs are no longer run", exc_info=error)

    def _at_once(self, service: ServiceName) -> int:
        return self._neighbours.concurrency(service) or self._settings.in_flight


def _fitting(settings: JobSettings, inline_bytes: int) -> JobSettings:
    """The settings for a store whose messages take bodies of so many bytes."""
    return replace(
        settings,
        inline_bytes=min(settings.inline_bytes, inline_bytes),
        result_inline_bytes=min(settings.result_inline_bytes, inline_bytes),
    )


def _is_below(prefix: str, path: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _worker() -> str:
    """A name that no other process has, and that tells a person where to look."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
