"""Carries one event to its end: delivered, answered, or a dead letter in a durable place.

A courier knows nothing of leases. When `carry` returns, the event may be settled; when it is
cancelled or raises, the event must be delivered again.

An event is posted in binary content mode, so its data travels untouched (checklist B3 and B5).
Redirects are not followed: a 3xx is a failure by contract.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Self, TypeVar

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode, decode, encode, mode_of
from relume.eventing.delivery.answer import Answer
from relume.eventing.delivery.burial import Burial
from relume.eventing.delivery.carrier import Idle
from relume.eventing.delivery.connections import Connections
from relume.eventing.delivery.decision import DeadLetter, Drop, Reply, Retry
from relume.eventing.delivery.llm_d import FreeRetry, decide_routed, refused, router_headers
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered, pause_s
from relume.eventing.delivery.route import Attempt, Journal, Route
from relume.eventing.delivery.turns import Slots, with_place
from relume.eventing.envelope import Envelope, TtlExhausted, coming_back, going_out
from relume.eventing.event_log import BrokerKey, EventLog, EventTooLarge, LeasedEvent
from relume.eventing.header_room import AttributesTooLong

T = TypeVar("T")

_CONNECT_WITHIN_S = 30.0
# Shorter than any server's own (uvicorn's 5 s), so that no request meets a closing connection.
_KEEP_ALIVE_S = 2.0
_ERROR_BODY_BYTES = 64 * 1024


class Subscribers:
    """One connection pool for all deliveries; an asynchronous context manager."""

    def __init__(self, max_reply_bytes: int) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._connections = Connections(keep_s=_KEEP_ALIVE_S, connect_within_s=_CONNECT_WITHIN_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connections.close()

    async def post(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        """Deliver once; every error is an Outcome.

        `timeout_s` bounds the whole exchange; None waits for the subscriber.
        """
        headers, body = encode(envelope.event, Mode.BINARY)
        headers += [*envelope.headers.items(), *router_headers(envelope.event)]
        headers += [("Prefer", "reply"), ("Kn-Namespace", namespace)]
        posting = self._connections.post(url, headers, body, self._limit)
        try:
            if timeout_s is None:
                return self._outcome(await posting)
            async with asyncio.timeout(timeout_s):
                return self._outcome(await posting)
        except TimeoutError:
            return Unanswered("no answer in time", timed_out=True)
        except (OSError, ValueError) as error:
            return Unanswered(str(error) or type(error).__name__)

    def _limit(self, status: int) -> int:
        return self._max_reply_bytes if _is_success(status) else _ERROR_BODY_BYTES

    def _outcome(self, answer: Answer) -> Answered:
        status, headers, body = answer.status, answer.headers, answer.body
        if not _is_success(status):
            return refused(status, body[:_ERROR_BODY_BYTES], headers)
        if len(body) > self._max_reply_bytes:
            words = f"the reply is larger than {self._max_reply_bytes} bytes"
            return Answered(status, malformed=words, too_large=True)
        mode = mode_of(headers)
        if mode is None and not body:
            return Answered(status)
        try:
            if mode is Mode.BATCH:
                raise InvalidEvent("a batch was not asked for")
            return Answered(status, reply=decode(headers, body, lenient=True).event)
        except InvalidEvent as error:
            return Answered(status, malformed=f"the reply is no event: {error}")


def _is_success(status: int) -> bool:
    return 200 <= status < 300


class Courier:
    """Delivers the events of one Trigger, any number at once, as many as there are slots."""

    def __init__(
        self,
        route: Route,
        log: EventLog,
        subscribers: Subscribers,
        slots: Slots,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._log = log
        self._subscribers = subscribers
        self._slots = slots
        self._clock = clock
        self.tally = journal.tally
        self.follow(route, journal)

    def follow(self, route: Route, journal: Journal, begun: Collection[int] = ()) -> None:
        """Go by another route: the next attempt, and the answer to an attempt that is under way.

        begun: the events that the filter of the route before has passed, by sequence.
        """
        self._route, self._journal, self._begun = route, journal, frozenset(begun)
        self._rules = route.policy.profile
        self._burial = Burial(route, self._log, self._subscribers.post, journal, self._clock)

    async def give_up(
        self, envelope: Envelope, letter: DeadLetter, attempt: Attempt | None = None
    ) -> None:
        """See `Burial.give_up`."""
        await self._burial.give_up(envelope, letter, attempt)

    async def carry(self, envelope: Envelope, leased: LeasedEvent, idle: Idle) -> None:
        """Deliver, with retries; store the reply; or make a dead letter of it."""
        sequence = leased.sequence
        if (partitions := self._rules.partitions) is not None:
            envelope = with_place(envelope, sequence, partitions)
        if self._rules.waits_in_place:
            await self._in_slot(idle, partial(self._deliver, envelope, sequence, idle))
        else:
            await self._deliver(envelope, sequence, idle)

    async def _in_slot(self, idle: Idle, work: Callable[[], Awaitable[T]]) -> T:
        with idle():
            await self._slots.acquire()
        try:
            return await work()
        finally:
            self._slots.release()

    async def _deliver(self, envelope: Envelope, sequence: int, idle: Idle) -> None:
        number, free = 0, 0
        while True:
            number += 1
            post = partial(self._post, envelope, sequence, number)
            waits_in_place = self._rules.waits_in_place
            tried = await (post() if waits_in_place else self._in_slot(idle, post))
            if tried is None:
                self.tally.filtered += 1
                return
            outcome, attempt = tried
            policy = self._route.policy
            action = decide_routed(outcome, number, free, policy, self._clock.now())
            if not isinstance(action, Retry):
                break
            free += isinstance(action, FreeRetry)
            self.tally.retried += 1
            detail = f"{action.why}, again in {action.after_s:g} s"
            self._journal.tell("retrying", envelope.event, attempt, detail)
            with idle():
                await self._clock.sleep(action.after_s)
        if isinstance(action, Reply) and (log := self._route.replies) is not None:
            key = self._route.key_of_reply(sequence)
            await self._take_reply(envelope, action.event, attempt, log, key)
        elif isinstance(action, DeadLetter):
            await self.give_up(envelope, action, attempt)
        elif isinstance(action, Drop):
            self._burial.drop(envelope.event, action.why, attempt)
        else:
            self.tally.delivered += 1
            self._journal.tell("delivered", envelope.event, attempt)

    async def _post(
        self, envelope: Envelope, sequence: int, number: int
    ) -> tuple[Outcome, Attempt] | None:
        """Try once; None where the Trigger was changed and does not want the event any more."""
        route, policy = self._route, self._route.policy
        # What was put back for this Trigger has no filter (see the dispatcher).
        if sequence in self._begun and not (envelope.trigger or route.wanted(envelope.event)):
            return None
        outgoing = Envelope(going_out(envelope.event), envelope.headers)
        self._journal.tell("delivering", outgoing.event, Attempt(number), route.subscriber)
        started = self._clock.monotonic()
        post = self._subscribers.post(
            route.url, outgoing, namespace=route.namespace, timeout_s=policy.timeout_s
        )
        if (wait_s := self._rules.ack_wait_s) is None or policy.timeout_s is not None:
            outcome = await post
        else:
            outcome = await self._journal.watched(post, outgoing.event, number, wait_s)
        took_ms = round((self._clock.monotonic() - started) * 1000, 1)
        if isinstance(outcome, Unanswered):
            return outcome, Attempt(number, None, took_ms)
        if self._rules.pauses and outcome.retry_after is not None:
            self._slots.pause(pause_s(outcome, policy, self._clock.now()))
        return outcome, Attempt(number, outcome.status, took_ms)

    async def _take_reply(
        self, request: Envelope, reply: CloudEvent, attempt: Attempt, log: BrokerKey, key: str
    ) -> None:
        route, counted = self._route, self._rules.counts_passages
        try:
            stored = coming_back(reply, request.event, self._clock.now(), counted=counted)
            answer = Envelope(stored, request.headers, via=route.trigger, key=key)
            new = await self._log.append(log, answer, math.inf)
        except (TtlExhausted, EventTooLarge, AttributesTooLong) as error:
            code, data = attempt.status or 0, str(error).encode()
            looped = isinstance(error, TtlExhausted)
            letter = DeadLetter("ttl-exhausted" if looped else "reply-too-large", code, data)
            return await self.give_up(request, letter, attempt)
        self.tally.delivered += 1
        self.tally.replied += 1
        self.tally.accepted += new
        self._journal.tell("replied", reply, attempt, f"to {request.event.id}", key=key)
        self._journal.tell("accepted" if new else "duplicate", reply, by_trigger=False, key=key)
