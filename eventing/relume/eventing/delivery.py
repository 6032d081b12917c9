"""What happens to an event after an attempt to deliver it: pure decisions, no I/O, no clock.

The profile is `strict`: the Knative Eventing data plane contract as written
(github.com/knative/specs, specs/eventing/data-plane.md), where Broker implementations deviate
from it in different directions.
"""

import base64
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from relume.config import Broker, Delivery, Destination, Trigger
from relume.eventing.event import CloudEvent

# Statuses worth another attempt, besides 5xx (data-plane.md, "Event Acknowledgement and Delivery
# Retry"). 409 means that the same event is being processed right now.
_RETRIED = frozenset({404, 408, 409, 429})
_HEEDS_RETRY_AFTER = frozenset({429, 503})
# What a timer can hold; the specification sets no bound.
_LONGEST_WAIT_S = 86_400.0
_ERROR_DATA_BYTES = 768  # 1,024 characters of base64, the Knative Channel's bound
NO_RESPONSE = -1  # the Knative dispatcher's code where no status was received


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """A delivery spec with every default filled in. `timeout_s` bounds one attempt; None: none."""

    retry: int = 10
    backoff: Literal["linear", "exponential"] = "exponential"
    backoff_delay_s: float = 0.2
    timeout_s: float | None = None
    retry_after_max_s: float | None = None
    dead_letter_sink: Destination | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The subscriber answered. `malformed` says why a body that came is no event."""

    status: int
    reply: CloudEvent | None = None
    malformed: str | None = None
    body: bytes = b""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No complete answer came: refused, reset, or timed out."""

    detail: str
    timed_out: bool = False


Outcome = Answered | Unanswered


@dataclass(frozen=True, slots=True)
class Done:
    """Delivered; there is nothing to store."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Delivered; the event goes back into the Broker before the delivery is settled."""

    event: CloudEvent


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this many seconds."""

    after_s: float
    why: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Give up. `reason` is one stable word, `code` the last status, `data` what came with it."""

    reason: Literal["retries-exhausted", "rejected", "not-an-event", "ttl-exhausted", "internal"]
    code: int
    data: bytes


Action = Done | Reply | Retry | DeadLetter


def policy_for(trigger: Trigger, broker: Broker) -> DeliveryPolicy:
    """The Trigger's delivery, else the Broker's, else `config-br-defaults`, each as a whole.

    As on a cluster, a delivery without `retry` means no retries; only the dead letter sink falls
    back from Trigger to Broker by itself.
    """
    delivery = trigger.delivery or broker.delivery
    if delivery is None:
        return DeliveryPolicy()
    default = DeliveryPolicy()
    delay = delivery.backoff_delay_s
    return DeliveryPolicy(
        retry=delivery.retry or 0,
        backoff=delivery.backoff_policy or default.backoff,
        backoff_delay_s=default.backoff_delay_s if delay is None else delay,
        timeout_s=delivery.timeout_s,
        retry_after_max_s=delivery.retry_after_max_s,
        dead_letter_sink=delivery.dead_letter_sink or _sink(broker.delivery),
    )


def decide(outcome: Outcome, attempt: int, policy: DeliveryPolicy, now: datetime) -> Action:
    """What to do after attempt number `attempt` (0 is the first); `now` only reads Retry-After."""
    if isinstance(outcome, Unanswered):
        return _again(outcome, attempt, policy, now)
    status = outcome.status
    if 200 <= status < 300:
        return _accepted(outcome)
    if status in _RETRIED or status >= 500:
        return _again(outcome, attempt, policy, now)
    return DeadLetter("rejected", status, outcome.body)


def backoff_s(policy: DeliveryPolicy, attempt: int) -> float:
    """Seconds before the retry that follows `attempt`, counted from 0 as Knative's code does.

    Exponential is delay * 2^n. Linear is delay * n, so its first retry comes at once.
    """
    if policy.backoff == "linear":
        return min(policy.backoff_delay_s * attempt, _LONGEST_WAIT_S)
    return min(math.ldexp(policy.backoff_delay_s, min(attempt, 64)), _LONGEST_WAIT_S)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds in a Retry-After header, delay or HTTP date (RFC 9110 §10.2.3); None if neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def dead_letter_event(event: CloudEvent, letter: DeadLetter, destination: str) -> CloudEvent:
    """The event as it was, with Knative's error extensions and our one-word reason."""
    data = base64.b64encode(letter.data[:_ERROR_DATA_BYTES]).decode("ascii")
    return event.with_attributes(
        knativeerrordest=destination,
        knativeerrorcode=letter.code,
        knativeerrordata=data or None,
        deadletterreason=letter.reason,
    )


def _accepted(outcome: Answered) -> Action:
    # data-plane.md: 202 means accepted for later, and its body MUST NOT be taken for a reply.
    if outcome.status == 202:
        return Done()
    if outcome.reply is not None:
        return Reply(outcome.reply)
    if outcome.malformed is not None:
        return DeadLetter("not-an-event", outcome.status, outcome.malformed.encode())
    return Done()


def _again(outcome: Outcome, attempt: int, policy: DeliveryPolicy, now: datetime) -> Action:
    if isinstance(outcome, Answered):
        code, data, why = outcome.status, outcome.body, f"status {outcome.status}"
    else:
        code, data, why = NO_RESPONSE, outcome.detail.encode(), outcome.detail
    if attempt >= policy.retry:
        return DeadLetter("retries-exhausted", code, data)
    wait = backoff_s(policy, attempt)
    if isinstance(outcome, Answered) and code in _HEEDS_RETRY_AFTER:
        asked = retry_after_s(outcome.retry_after, now)
        wait = max(wait, min(asked or 0.0, policy.retry_after_max_s or 0.0))
    return Retry(wait, why)


def _sink(delivery: Delivery | None) -> Destination | None:
    return delivery.dead_letter_sink if delivery else None
