"""What happens to an event after an attempt to deliver it: pure decisions, no I/O, no clock.

The rules are those of the policy's profile: the Knative Eventing data plane contract as written, or
what the Brokers of a cluster do instead (`profiles`).
"""

from dataclasses import dataclass
from datetime import datetime

from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.outcome import (
    Answered,
    DeadLetterReason,
    Outcome,
    Unanswered,
    asked_s,
)
from relume.eventing.delivery.route import DeliveryPolicy, backoff_s

NO_RESPONSE = -1  # the Knative dispatcher's code where no status was received


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

    reason: DeadLetterReason
    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """The event is gone, as it would be with the Broker whose profile this is."""

    code: int
    why: str


Action = Done | Reply | Retry | DeadLetter | Drop


def decide(outcome: Outcome, attempt: int, policy: DeliveryPolicy, now: datetime) -> Action:
    """What to do after attempt number `attempt` (0 is the first); `now` only reads Retry-After."""
    if isinstance(outcome, Unanswered):
        detail = outcome.detail
        return _again(outcome, attempt, policy, now, NO_RESPONSE, detail.encode(), detail)
    status = outcome.status
    if 200 <= status < 300:
        return _accepted(outcome, attempt, policy, now)
    if status in policy.profile.retried or status >= 500:
        return _again(outcome, attempt, policy, now, status, outcome.body, f"status {status}")
    return _refused(outcome, attempt, policy)


def _accepted(outcome: Answered, attempt: int, policy: DeliveryPolicy, now: datetime) -> Action:
    rules = policy.profile
    # data-plane.md: 202 means accepted for later, and its body MUST NOT be taken for a reply.
    if outcome.status == 202 and not rules.replies_in_202:
        return Done()
    if outcome.reply is not None:
        return Reply(outcome.reply)
    if outcome.malformed is None or rules.malformed_reply == "delivered":
        return Done()
    data = outcome.malformed.encode()
    if rules.malformed_reply == "retry":
        return _again(outcome, attempt, policy, now, 502, data, outcome.malformed)
    return DeadLetter(outcome.no_reply, outcome.status, data)


def _refused(outcome: Answered, attempt: int, policy: DeliveryPolicy) -> Action:
    status, rule = outcome.status, policy.profile.refused
    if rule == "delivered":
        return Drop(status, f"status {status} counts as delivered")
    if rule == "final" and attempt < policy.retry:
        return Drop(status, f"status {status} ends it before its last attempt")
    return DeadLetter("rejected", status, outcome.body)


def _again(
    outcome: Outcome,
    attempt: int,
    policy: DeliveryPolicy,
    now: datetime,
    code: int,
    data: bytes,
    why: str,
) -> Action:
    if attempt < policy.retry:
        heeded = min(asked_s(outcome, now), policy.retry_after_max_s or 0.0)
        return Retry(max(backoff_s(policy, attempt), heeded), why)
    if isinstance(outcome, Answered) and outcome.malformed is not None:
        return DeadLetter(outcome.no_reply, code, data)
    return DeadLetter("retries-exhausted", code, data)
