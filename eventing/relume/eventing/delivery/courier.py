"""Carries one event to its end: delivered, answered, or a dead letter in a durable place.

Knows nothing of leases: when `carry` returns, the event may be settled; when it is cancelled or
raises, the event is as if it had not been touched.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.decision import (
    Answered,
    DeadLetter,
    Drop,
    Outcome,
    Reply,
    Retry,
    dead_letter_event,
    decide,
    pause_s,
)
from relume.eventing.delivery.ordering import partition_of
from relume.eventing.delivery.policy import sink_policy
from relume.eventing.delivery.route import Route, Tally
from relume.eventing.delivery.slots import Slots
from relume.eventing.delivery.subscriber import Subscribers
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import EventLog, EventTooLarge
from relume.eventing.observer import Observer, Record, Stage
from relume.eventing.time_to_live import TtlExhausted, coming_back, going_out, rfc3339, with_place

# Entered while an event waits for a slot or for its next attempt and may be given back.
Idle = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class _Attempt:
    number: int  # from 1
    outcome: Outcome | None = None
    ms: float | None = None

    @property
    def status(self) -> int | None:
        return self.outcome.status if isinstance(self.outcome, Answered) else None


class Courier:
    """Delivers the events of one Trigger, any number at once, as many as there are slots."""

    def __init__(
        self,
        route: Route,
        log: EventLog,
        subscribers: Subscribers,
        slots: Slots,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._route = route
        self._rules = route.policy.profile
        self._sink_policy = sink_policy(route.policy)
        self._log = log
        self._subscribers = subscribers
        self._slots = slots
        self._observer = observer
        self._clock = clock
        self.tally = Tally()

    async def carry(self, envelope: Envelope, sequence: int, idle: Idle) -> None:
        """Deliver, with retries; store the reply; or make a dead letter of it.

        `sequence` is the event's place in the log.
        """
        if self._rules.partitions is not None:
            partition = partition_of(envelope.event, sequence, self._rules.partitions)
            envelope = replace(envelope, event=with_place(envelope.event, partition, sequence))
        if not self._rules.waits_in_place:
            return await self._deliver(envelope, idle)
        with idle():
            await self._slots.acquire()
        try:
            await self._deliver(envelope, idle)
        finally:
            self._slots.release()

    async def give_up(
        self, envelope: Envelope, letter: DeadLetter, attempt: _Attempt | None = None
    ) -> None:
        """Make a dead letter: to the sink, or into the Broker's own log when none takes it."""
        route, rules = self._route, self._rules
        # With its time to live: the sink may be a Broker.
        event = dead_letter_event(envelope.event, letter, route.subscriber, rules)
        dead = replace(envelope, event=event)
        where = route.sink
        words = f"{letter.reason}: {letter.data[:200].decode(errors='replace')}"
        if why := await self._not_sunk(dead):
            if not (rules.keeps or route.sink_unread or letter.reason == "internal"):
                return self._drop(event, f"{words} ({why})", attempt)
            event = event.with_attributes(deadletterreason=letter.reason)
            kept = replace(dead, event=event)
            await self._log.bury(route.broker, route.trigger, kept, math.inf)
            where = f"kept by the Broker: {why}"
        self.tally.dead_lettered += 1
        self._tell("dead-lettered", event, attempt, f"{words} ({where})")

    async def _not_sunk(self, dead: Envelope) -> str | None:
        """Why the dead letter is in no sink; None when it is."""
        url, where = self._route.dead_letter_url, self._route.sink
        if url is None:
            return "no sink"
        if self._route.sink_unread:
            return f"nobody reads {where}"  # there it would be gone after a while
        return None if await self._sink(url, dead) else f"{where} failed"

    async def _deliver(self, envelope: Envelope, idle: Idle) -> None:
        outgoing = Envelope(going_out(envelope.event), envelope.headers)
        policy = self._route.policy
        number = 0
        while True:
            number += 1
            outcome, attempt = await self._attempt(outgoing, number, idle)
            action = decide(outcome, number - 1, policy, self._clock.now())
            if not isinstance(action, Retry):
                break
            self.tally.retried += 1
            detail = f"{action.why}, again in {action.after_s:g} s"
            self._tell("retrying", envelope.event, attempt, detail)
            with idle():
                await self._clock.sleep(action.after_s)
        if isinstance(action, Reply):
            await self._take_reply(envelope, action.event, attempt)
        elif isinstance(action, DeadLetter):
            await self.give_up(envelope, action, attempt)
        elif isinstance(action, Drop):
            self._drop(envelope.event, action.why, attempt)
        else:
            self.tally.delivered += 1
            self._tell("delivered", envelope.event, attempt)

    def _drop(self, event: CloudEvent, why: str, attempt: _Attempt | None) -> None:
        self.tally.dropped += 1
        detail = f"lost, as with a Broker of profile {self._rules.name}: {why}"
        self._tell("dropped", event, attempt, detail)

    async def _attempt(
        self, outgoing: Envelope, number: int, idle: Idle
    ) -> tuple[Outcome, _Attempt]:
        if self._rules.waits_in_place:
            return await self._post(outgoing, number)
        with idle():
            await self._slots.acquire()
        try:
            return await self._post(outgoing, number)
        finally:
            self._slots.release()

    async def _post(self, outgoing: Envelope, number: int) -> tuple[Outcome, _Attempt]:
        route, policy = self._route, self._route.policy
        self._tell("delivering", outgoing.event, _Attempt(number), route.subscriber)
        started = self._clock.monotonic()
        post = self._subscribers.post(
            route.url, outgoing, namespace=route.namespace, timeout_s=policy.timeout_s
        )
        if self._rules.ack_wait_s is None or policy.timeout_s is not None:
            outcome = await post
        else:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(outgoing.event, number))
                outcome = await post
                watch.cancel()
        if self._rules.strict and (pause := pause_s(outcome, policy, self._clock.now())):
            self._slots.pause(pause)
        took_ms = (self._clock.monotonic() - started) * 1000
        return outcome, _Attempt(number, outcome, round(took_ms, 1))

    async def _watch(self, event: CloudEvent, number: int) -> None:
        """Say what a second replica of the dispatcher would do now."""
        wait_s = self._rules.ack_wait_s or 0.0
        await self._clock.sleep(wait_s)
        detail = f"not acknowledged for {wait_s:g} s: a second replica would deliver it again now"
        self._tell("delivering", event, _Attempt(number), detail)

    async def _take_reply(self, request: Envelope, reply: CloudEvent, attempt: _Attempt) -> None:
        code = attempt.status or 0
        try:
            stored = coming_back(
                reply, request.event, self._clock.now(), counted=self._rules.counts_passages
            )
            answer = Envelope(stored, request.headers, via=self._route.trigger)
            new = await self._log.append(self._route.broker, answer, math.inf)
        except TtlExhausted as error:
            letter = DeadLetter("ttl-exhausted", code, str(error).encode())
            return await self.give_up(request, letter, attempt)
        except EventTooLarge as error:
            letter = DeadLetter("not-an-event", code, str(error).encode())
            return await self.give_up(request, letter, attempt)
        self.tally.delivered += 1
        self.tally.replied += 1
        self.tally.accepted += new
        self._tell("replied", reply, attempt, f"to {request.event.id}")
        self._tell("accepted" if new else "duplicate", reply, trigger=False)

    async def _sink(self, url: str, dead: Envelope) -> bool:
        """Whether the dead letter sink took it, with the Trigger's own retries."""
        policy, attempt = self._sink_policy, 0
        while True:
            outcome = await self._subscribers.post(
                url, dead, namespace=self._route.namespace, timeout_s=policy.timeout_s
            )
            if isinstance(outcome, Answered) and 200 <= outcome.status < 300:
                return True  # what a sink answers is nobody's reply
            action = decide(outcome, attempt, policy, self._clock.now())
            if not isinstance(action, Retry):
                return False
            await self._clock.sleep(action.after_s)
            attempt += 1

    def _tell(
        self,
        stage: Stage,
        event: CloudEvent,
        attempt: _Attempt | None = None,
        detail: str | None = None,
        *,
        trigger: bool = True,
    ) -> None:
        self._observer.publish(
            Record(
                at=rfc3339(self._clock.now()),
                stage=stage,
                broker=str(self._route.broker),
                event=event,
                trigger=self._route.trigger if trigger else None,
                attempt=attempt.number if attempt else None,
                status=attempt.status if attempt else None,
                ms=attempt.ms if attempt else None,
                detail=detail,
            )
        )
