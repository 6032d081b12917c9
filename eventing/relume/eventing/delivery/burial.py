"""What becomes of an event that is given up: a dead letter, in a sink or in the Broker's log."""

import base64
import math
from collections.abc import Awaitable
from dataclasses import replace
from typing import Protocol

from relume.base.clock import Clock
from relume.base.vocabulary import DEAD_LETTER_REASON
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.decision import NO_RESPONSE, DeadLetter, Retry, decide
from relume.eventing.delivery.outcome import Answered, Outcome
from relume.eventing.delivery.profiles import Profile
from relume.eventing.delivery.route import Attempt, Journal, Route, sink_policy
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import EventLog


class Post(Protocol):
    """Posts an event to a URL once; every error is an Outcome."""

    def __call__(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Awaitable[Outcome]: ...


def dead_letter_event(
    event: CloudEvent, letter: DeadLetter, destination: str, profile: Profile
) -> CloudEvent:
    """The event as it was, with the error extensions that the profile's Broker would add.

    The specification's Broker adds all, and our one-word reason.
    """
    if letter.reason in ("not-an-event", "reply-too-large"):
        fields = profile.malformed_fields
    elif letter.code == NO_RESPONSE:
        fields = profile.unanswered_fields
    else:
        fields = profile.error_fields
    code = profile.unanswered_code if letter.code == NO_RESPONSE else letter.code
    data = base64.b64encode(letter.data[: profile.error_data_bytes]).decode("ascii")
    told: dict[str, str | int | None] = {"dest": destination, "code": code, "data": data or None}
    attributes = {f"knativeerror{field}": told[field] for field in fields}
    if profile.tells_reason:
        attributes[DEAD_LETTER_REASON] = letter.reason
    return event.with_attributes(**attributes)


class Burial:
    """Gives up events of one Trigger."""

    def __init__(
        self, route: Route, log: EventLog, post: Post, journal: Journal, clock: Clock
    ) -> None:
        self._route = route
        self._rules = route.policy.profile
        self._sink_policy = sink_policy(route.policy)
        self._log = log
        self._post = post
        self._journal = journal
        self._clock = clock

    async def give_up(
        self, envelope: Envelope, letter: DeadLetter, attempt: Attempt | None = None
    ) -> None:
        """Make a dead letter: to the sink, or into the Broker's own log when no sink takes it."""
        route = self._route
        # With its time to live: the sink may be a Broker.
        event = dead_letter_event(envelope.event, letter, route.subscriber, self._rules)
        dead = replace(envelope, event=event)
        where = route.sink
        words = f"{letter.reason}: {letter.data[:200].decode(errors='replace')}"
        if why := await self._not_sunk(dead):
            kept = self._rules.keeps_undeliverable or route.sink_unread
            if not kept and letter.reason != "internal":
                return self.drop(event, f"{words} ({why})", attempt)
            event = event.with_attributes(**{DEAD_LETTER_REASON: letter.reason})
            buried = replace(dead, event=event)
            await self._log.bury(route.broker, route.trigger, buried, math.inf)
            where = f"kept by the Broker: {why}"
        self._journal.tally.dead_lettered += 1
        self._journal.tell("dead-lettered", event, attempt, f"{words} ({where})")

    def drop(self, event: CloudEvent, why: str, attempt: Attempt | None) -> None:
        """The event is lost, as it would be with the Broker whose profile this is."""
        self._journal.tally.dropped += 1
        detail = f"lost, as with a Broker of profile {self._rules.name}: {why}"
        self._journal.tell("dropped", event, attempt, detail)

    async def _not_sunk(self, dead: Envelope) -> str | None:
        """Why the dead letter is in no sink; None when it is."""
        url, where = self._route.dead_letter_url, self._route.sink
        if url is None:
            return "no sink"
        if self._route.sink_unread:
            return f"nobody reads {where}"  # there it would be gone after a while
        return None if await self._sink(url, dead) else f"{where} failed"

    async def _sink(self, url: str, dead: Envelope) -> bool:
        """Whether the dead letter sink took it, with the Trigger's own retries."""
        policy, attempt = self._sink_policy, 0
        while True:
            outcome = await self._post(
                url, dead, namespace=self._route.namespace, timeout_s=policy.timeout_s
            )
            if isinstance(outcome, Answered) and 200 <= outcome.status < 300:
                return True  # what a sink answers is nobody's reply
            action = decide(outcome, attempt, policy, self._clock.now())
            if not isinstance(action, Retry):
                return False
            await self._clock.sleep(action.after_s)
            attempt += 1
