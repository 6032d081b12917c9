"""Publishes what was settled: the usage of each job, and the reply event where it came as an event.

What is to be published stands in the record that settled the job, so nothing can be settled and not
published. A record is acknowledged when each of its events is at its sink, parked, or a dead
letter. After a crash they are published again under the same ids. An event whose sink is away is
parked: it is kept in the store on its own (`unsent.py`), so that no other event and no other job
waits for it.

An event that is not at its sink by nine tenths of the time for which its record is kept becomes a
dead letter, which stays. Dead letters lie in a log of their own, as
if the Trigger `replies` of the Broker `relume-jobs/outbox` had given them up: so `relume dlq` shows
them, and puts them back. A gateway has no such log: it keeps them in the job store.
"""

import asyncio
import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import replace

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent
from relume.config.urls import without_secrets
from relume.eventing.delivery.burial import Post, dead_letter_event
from relume.eventing.delivery.carrier import Idle
from relume.eventing.delivery.decision import DeadLetter, Retry, decide
from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered
from relume.eventing.delivery.profiles import STRICT
from relume.eventing.delivery.route import DeliveryPolicy, Route, Tally, backoff_s
from relume.eventing.delivery.turns import Slots
from relume.eventing.envelope import Envelope, TtlExhausted
from relume.eventing.event_log import (
    BrokerKey,
    Cursor,
    DiskFull,
    EventLog,
    EventTooLarge,
    LeasedEvent,
    StoreUnavailable,
)
from relume.eventing.header_room import AttributesTooLong
from relume.eventing.jobs.chunk_log import STORE_PAUSE_S
from relume.eventing.jobs.packing import unpack_record
from relume.eventing.jobs.payloads import ResultUrl
from relume.eventing.jobs.settled_events import reply_event, usage_event
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobStore, JobTooLarge
from relume.eventing.jobs.unsent import SINK, Away, CursorOver, LeasedAs, Outgoing, Parked, place_of
from relume.eventing.settings import EventingSettings

log = logging.getLogger(__name__)

#: The log of dead letters, and the Trigger that gave them up.
OUTBOX, TRIGGER = BrokerKey("relume-jobs", "outbox"), "replies"
# A settled record, as the delivery engine carries it.
_RECORD = "relume.job.record"
# An event is given up when it fails after this part of the time for which its record is kept, and
# after so many more attempts (a clock that has jumped ends nothing at its first failure). Until
# then it counts as tried fewer times than the policy allows, so that the waits stop growing: at
# 25.6 s, unless a sink asks for up to a minute.
_GIVEN_UP_AT, _LEAST_RETRIES = 0.9, 3
_POLICY = DeliveryPolicy(retry=8, timeout_s=30.0, retry_after_max_s=60.0, profile=STRICT)


class Outbox:
    """Publishes until it is stopped; `run` belongs into a task of its own.

    `letters` is the log that keeps dead letters (None: the store does), `post` posts an event
    once (`Subscribers.post`), `result_url` is the absolute URL of a job's result.
    """

    def __init__(
        self,
        store: JobStore,
        sinks: Sinks,
        letters: EventLog | None,
        post: Post,
        result_url: ResultUrl,
        clock: Clock,
        settings: EventingSettings,
    ) -> None:
        self._store = store
        self._letters = letters
        self._clock = clock
        self._settings = settings
        self._dispatchers: list[Dispatcher] = []
        self._slots = Slots(lambda: settings.in_flight, clock.monotonic)
        self.carrier = OutboxCarrier(store, sinks, letters, post, result_url, clock, self._slots)

    @property
    def tally(self) -> Tally:
        return self.carrier.tally

    @property
    def waiting(self) -> int:
        """How many records and dead letters are not published yet."""
        return sum(each.waiting + each.in_flight for each in self._dispatchers)

    def publishes(self, record: Record) -> bool:
        """Whether anything is published of a settled record."""
        return self.carrier.publishes(record)

    async def open(self) -> None:
        """Make ready what `run` needs. Raises StoreUnavailable."""
        carrier = self.carrier
        parked = Parked(self._store.parked(), carrier.away, self._clock, carrier.process)
        carrier.parked = parked
        cursors: list[Cursor] = [_Records(self._store.settled()), parked]
        if self._letters is not None:
            await self._letters.open_broker(OUTBOX, [TRIGGER])
            cursors.append(self._letters.cursor(OUTBOX, TRIGGER))
        self._dispatchers = [self._dispatcher(each) for each in cursors]

    async def run(self) -> None:
        """Publish until stopped. Cancelling gives back what is leased."""
        async with asyncio.TaskGroup() as group:
            for each in self._dispatchers:
                group.create_task(each.run())

    async def stop(self, grace_s: float) -> None:
        """Take up nothing more, let posts end within `grace_s`, and give the rest back."""
        async with asyncio.TaskGroup() as group:
            for each in self._dispatchers:
                group.create_task(each.stop(grace_s))

    def _dispatcher(self, cursor: Cursor) -> Dispatcher:
        route = Route(
            broker=OUTBOX,
            trigger=TRIGGER,
            namespace=OUTBOX.namespace,
            wanted=lambda _: True,
            policy=_POLICY,
            url="",
            replies=None,
        )
        return Dispatcher(route, cursor, self.carrier, self._slots, self._clock, self._settings)


class OutboxCarrier:
    """Brings the events of one record to their sinks; a Carrier."""

    def __init__(
        self,
        store: JobStore,
        sinks: Sinks,
        letters: EventLog | None,
        post: Post,
        result_url: ResultUrl,
        clock: Clock,
        slots: Slots,
    ) -> None:
        self._sinks = sinks
        self._letters = letters
        self._post = post
        self._store = store
        self._result_url = result_url
        self._clock = clock
        self._slots = slots
        self.process = secrets.token_hex(8)
        self.parked: Parked | None = None  # what comes again when a sink is back
        self.away = Away(_wait_s, _POLICY.timeout_s or 0.0)
        self.tally = Tally()

    async def carry(self, envelope: Envelope, leased: LeasedEvent, idle: Idle) -> None:
        """Return when each event is at its sink, parked, or a dead letter."""
        outgoing = self._outgoing(envelope)
        if not outgoing:
            return
        with idle():
            await self._slots.acquire()
        try:
            now = self._now()
            sent = [each for each in outgoing if self._is_due(each, now)]
            outcomes = await asyncio.gather(*map(self._send, sent))
        finally:
            self._slots.release()
        for each in outgoing:
            if each not in sent:
                await self._park(each)
        for each, outcome in zip(sent, outcomes, strict=True):
            await self._end(each, outcome)

    async def give_up(self, envelope: Envelope, letter: DeadLetter) -> None:
        """Keep what a fault of this code has stopped, a whole record as it may be."""
        await self._bury(envelope, letter, envelope.headers.get(SINK, ""))

    def publishes(self, record: Record) -> bool:
        """Whether a settled record has any event for a sink."""
        return self._sinks.usage is not None or record.reply_to is not None

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _is_due(self, outgoing: Outgoing, now: float) -> bool:
        """Whether it is tried: not while its sink is away for others, unless its time is up."""
        late = outgoing.until <= now
        return late or outgoing.probes or outgoing.sink not in self.away

    def _outgoing(self, envelope: Envelope) -> list[Outgoing]:
        if envelope.event.type != _RECORD:
            return [Outgoing.from_envelope(envelope)]
        record = unpack_record(envelope.event.data or b"")
        settled_at = record.settled_at or self._clock.now()
        until = settled_at.timestamp() + _GIVEN_UP_AT * record.stored_s
        events = [(usage_event(record), self._sinks.usage)]
        if (reply := reply_event(record, self._result_url)) is not None:
            events.append((reply, record.reply_to))
        return [
            Outgoing(event, sink, record.service.namespace, record.id, until)
            for event, sink in events
            if sink is not None
        ]

    async def _send(self, outgoing: Outgoing) -> Outcome:
        """One attempt; every error of a sink is an Outcome."""
        match self._sinks.find(outgoing.sink):
            case None:
                return Answered(400, body=f"there is no Broker {outgoing.sink} any more".encode())
            case BrokerKey() as broker:
                return await self._take(broker, outgoing.event)
            case url:
                return await self._post(
                    url,
                    Envelope(outgoing.event),
                    namespace=outgoing.namespace,
                    timeout_s=_POLICY.timeout_s,
                )

    async def _take(self, broker: BrokerKey, event: CloudEvent) -> Outcome:
        try:
            await self._sinks.take(broker, event)
        except (StoreUnavailable, DiskFull) as error:
            return Unanswered(str(error))
        except (TtlExhausted, AttributesTooLong, EventTooLarge) as error:
            return Answered(413, body=str(error).encode())
        return Answered(202)

    async def _end(self, outgoing: Outgoing, outcome: Outcome) -> None:
        """Do what follows from an attempt."""
        if isinstance(outcome, Answered) and 200 <= outcome.status < 300:
            self.tally.delivered += 1  # what a sink answers is nobody's reply
            await self._back(outgoing.sink)
            return
        now, attempts = self._now(), outgoing.attempts
        late = now >= outgoing.until and attempts >= _LEAST_RETRIES
        counted = _POLICY.retry if late else min(attempts, _POLICY.retry - 1)
        action = decide(outcome, counted, _POLICY, self._clock.now())
        if isinstance(action, Retry):
            self.tally.retried += 1
            self.away.failed(outgoing.sink, now, asked=outgoing.probes)
            due, process = now + action.after_s, self.process
            again = replace(outgoing, attempts=attempts + 1, due=due, tried_by=process)
            await self._park(again)
        elif isinstance(action, DeadLetter):
            if outgoing.probes:
                await self._back(outgoing.sink)  # it answers
            envelope = Envelope(outgoing.event, outgoing.headers, redrive=outgoing.redrive)
            await self._bury(envelope, action, outgoing.sink)

    async def _back(self, sink: str) -> None:
        if self.away.back(sink) and self.parked is not None:
            await self.parked.recall(sink)

    async def _park(self, outgoing: Outgoing) -> None:
        """Keep an event until it is due; waits for a store that restarts."""
        kept = outgoing.parked()
        while True:
            try:
                return await self._store.park(outgoing.job, outgoing.name, kept.pack())
            except JobTooLarge as error:
                letter = DeadLetter("internal", 0, str(error).encode())
                return await self._bury(kept, letter, outgoing.sink)
            except (StoreUnavailable, DiskFull) as error:
                log.warning("event %s waits for the store: %s", outgoing.event.id, error)
                await self._clock.sleep(STORE_PAUSE_S)

    async def _bury(self, envelope: Envelope, letter: DeadLetter, sink: str) -> None:
        where, event = without_secrets(sink), envelope.event
        said = letter.data[:200].decode(errors="replace")
        log.error("event %s for %s: %s: %s", event.id, where or "-", letter.reason, said)
        dead = replace(envelope, event=dead_letter_event(event, letter, where or "/", STRICT))
        if self._letters is not None:
            await self._letters.bury(OUTBOX, TRIGGER, dead, math.inf)
        else:
            await self._keep(replace(dead, trigger=TRIGGER))
        self.tally.dead_lettered += 1

    async def _keep(self, dead: Envelope) -> None:
        """Keep a dead letter of a gateway; waits for a store that restarts."""
        job_id, name = place_of(dead)
        while True:
            try:
                return await self._store.bury(job_id, name, dead.pack())
            except JobTooLarge as error:
                return log.error("event %s is not kept: %s", dead.event.id, error)
            except (StoreUnavailable, DiskFull) as error:
                log.warning("a dead letter waits for the store: %s", error)
                await self._clock.sleep(STORE_PAUSE_S)


def _wait_s(failures: int) -> float:
    return backoff_s(_POLICY, min(failures, _POLICY.retry - 1))


class _Records(CursorOver):
    """The cursor of settled records, as the events that a dispatcher takes."""

    async def fetch(self, limit: int) -> Sequence[LeasedEvent]:
        return [
            LeasedAs(each, _as_event(each.sequence, each.payload))
            for each in await self._over.fetch(limit)
        ]


def _as_event(sequence: int, record: bytes) -> bytes:
    attributes = {
        "specversion": "1.0",
        "id": str(sequence),
        "source": "/relume/jobs",
        "type": _RECORD,
    }
    return Envelope(CloudEvent(attributes, record)).pack()
