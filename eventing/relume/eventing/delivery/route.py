"""A Trigger, resolved: where its events go, by which rules they are delivered, what it has done."""

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple, TypeVar

from relume.base.clock import Clock
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.config import Broker, Delivery, Destination, Trigger
from relume.config.urls import without_secrets
from relume.eventing.delivery.profiles import STRICT, Profile
from relume.eventing.event_log import BrokerKey
from relume.eventing.filters import Predicate
from relume.eventing.observer import Observer, Record, Stage

T = TypeVar("T")

# config-br-defaults (knative/eventing config/core/configmaps/default-broker.yaml): the delivery of
# every Broker that has none, whatever its class.
_BROKER_DEFAULT = Delivery(retry=10, backoff_policy="exponential", backoff_delay_s=0.2)
# What a timer can hold; the specification sets no bound.
LONGEST_WAIT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How often and how long to try, by the rules of `profile`.

    `retry` counts the attempts after the first, `timeout_s` bounds one attempt (None: nothing
    does), `retry_after_max_s` bounds a Retry-After header (None: the header does not count).
    """

    retry: int = 10
    backoff: Literal["linear", "exponential"] = "exponential"
    backoff_delay_s: float = 0.2
    timeout_s: float | None = None
    retry_after_max_s: float | None = None
    dead_letter_sink: Destination | None = None
    profile: Profile = STRICT
    first_exponent: int = 0


@dataclass(frozen=True)
class Route:
    """A Trigger, resolved: where its events come from and go to.

    `replies` is the log that takes what the subscriber answers (None: an answer counts as success
    and nobody gets it). `in_flow`: an event has one reply there, whatever id the subscriber gives.
    `url` and `dead_letter_url` may hold a password; only what posts to them reads them.
    `sink_unread`: the dead letter sink is a Broker of this plane that no Trigger reads.
    """

    broker: BrokerKey
    trigger: str
    namespace: str
    wanted: Predicate
    policy: DeliveryPolicy
    url: str
    replies: BrokerKey | None
    in_flow: bool = False
    dead_letter_url: str | None = None
    sink_unread: bool = False
    ordered: bool = False

    def key_of_reply(self, sequence: int) -> str:
        """The key of the only reply to the event at `sequence`; "" where the reply's id is it."""
        return f"{self.broker}/{self.trigger}/{sequence}" if self.in_flow else ""

    @cached_property
    def subscriber(self) -> str:
        """The URL for people and events."""
        return without_secrets(self.url)

    @cached_property
    def sink(self) -> str | None:
        """The URL of the dead letter sink for people and events."""
        return without_secrets(self.dead_letter_url) if self.dead_letter_url else None


@dataclass(slots=True)
class Tally:
    """What one Trigger has done since this process started."""

    delivered: int = 0
    replied: int = 0
    accepted: int = 0  # replies that the Broker did not have yet
    retried: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    filtered: int = 0


class Attempt(NamedTuple):
    """One attempt, from 1. `status` is the subscriber's, `ms` how long its answer took."""

    number: int
    status: int | None = None
    ms: float | None = None


class Journal:
    """Counts what one Trigger does, and tells the observer."""

    def __init__(self, route: Route, observer: Observer, clock: Clock, tally: Tally) -> None:
        self._route = route
        self._observer = observer
        self._clock = clock
        self._broker, self._replies = str(route.broker), str(route.replies)
        self.tally = tally

    def tell(
        self,
        stage: Stage,
        event: CloudEvent,
        attempt: Attempt | None = None,
        detail: str | None = None,
        *,
        by_trigger: bool = True,
        key: str = "",
    ) -> None:
        """One step in the life of an event, which the log knows by `key` if it has one.

        `by_trigger`: it is this Trigger's doing, on an event of its log. Else it is what the log
        does that takes the Trigger's replies.
        """
        number, status, ms = attempt or (None, None, None)
        at, trigger = rfc3339(self._clock.now()), self._route.trigger
        broker, of = (self._broker, trigger) if by_trigger else (self._replies, None)
        via = trigger if stage == "replied" or not by_trigger else ""
        # By place, because each event has three records.
        known = (at, stage, broker, event, of, number, status, ms, detail, via, None, None)
        self._observer.publish(Record(*known, key or None))

    async def watched(self, post: Awaitable[T], event: CloudEvent, number: int, wait_s: float) -> T:
        """The result of `post`; after `wait_s` it tells what a second replica would do then."""
        detail = f"not acknowledged for {wait_s:g} s: a second replica would deliver it again now"
        tell = partial(self.tell, "delivering", event, Attempt(number), detail)
        timer = self._clock.call_later(wait_s, tell)
        try:
            return await post
        finally:
            timer.cancel()


def policy_for(trigger: Trigger, broker: Broker, profile: Profile = STRICT) -> DeliveryPolicy:
    """The policy of one Trigger, as a cluster would find it.

    A delivery counts as a whole: the Trigger's, else the Broker's, else `config-br-defaults`; only
    the dead letter sink falls back by itself. A delivery that leaves out `retry` means no retries.
    A profile may say otherwise (`Profile.inherits`).
    """
    own, brokers = trigger.delivery, broker.delivery or _BROKER_DEFAULT
    match profile.inherits:
        case "sink":
            return _policy(own or brokers, profile, brokers.dead_letter_sink)
        case "nothing":
            return _policy(own or brokers, profile)
        case "fields":
            return _policy(_merged(own, brokers) if own else brokers, profile)
        case "never":
            return _policy(own or Delivery(), profile)


def sink_policy(policy: DeliveryPolicy) -> DeliveryPolicy:
    """How a dead letter is brought to its sink."""
    fixed = policy.profile.sink_retry
    if fixed is None:
        return policy
    return DeliveryPolicy(
        retry=fixed.retry,
        backoff="linear",
        backoff_delay_s=fixed.delay_s,
        timeout_s=fixed.timeout_s,
        profile=policy.profile,
    )


def backoff_s(policy: DeliveryPolicy, attempt: int) -> float:
    """Seconds before the retry that follows `attempt`, counted from 0.

    Exponential is delay * 2^n, linear delay * n. With n from 0, as Knative's own code counts, the
    first linear retry comes at once; others count from 1 (`Profile.first_exponent`).
    """
    n = attempt + policy.first_exponent
    if policy.backoff == "linear":
        return min(policy.backoff_delay_s * n, LONGEST_WAIT_S)
    return min(math.ldexp(policy.backoff_delay_s, min(n, 64)), LONGEST_WAIT_S)


def _policy(
    delivery: Delivery, profile: Profile, sink: Destination | None = None
) -> DeliveryPolicy:
    delay, policy = delivery.backoff_delay_s, delivery.backoff_policy
    if profile.default_delay_s is None:  # both or none
        delay = 0.0 if delay is None or policy is None else delay
    elif delay is None:
        delay = profile.default_delay_s
    return DeliveryPolicy(
        retry=profile.default_retry if delivery.retry is None else delivery.retry,
        backoff=policy or "exponential",
        backoff_delay_s=delay,
        timeout_s=delivery.timeout_s or profile.timeout_s,
        retry_after_max_s=delivery.retry_after_max_s if profile.heeds_retry_after else None,
        dead_letter_sink=delivery.dead_letter_sink or sink,
        profile=profile,
        first_exponent=profile.first_exponent,
    )


def _merged(own: Delivery, brokers: Delivery) -> Delivery:
    """What a Trigger leaves out is the Broker's; its 0 counts as left out (kafka)."""
    if own.retry is None and own.timeout_s is None and own.dead_letter_sink is None:
        return brokers  # a backoff alone says nothing
    return Delivery(
        retry=own.retry or brokers.retry,
        # A backoff counts only beside a retry, and the policy is never the Broker's.
        backoff_policy=own.backoff_policy if own.retry is not None else None,
        backoff_delay_s=own.backoff_delay_s if own.retry is not None else brokers.backoff_delay_s,
        timeout_s=own.timeout_s or brokers.timeout_s,
        dead_letter_sink=own.dead_letter_sink or brokers.dead_letter_sink,
    )
