"""How an attempt to deliver an event ended, and for how long the subscriber asked to be left alone.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.route import LONGEST_WAIT_S, DeliveryPolicy

_HEEDS_RETRY_AFTER = frozenset({429, 503})
_LONGEST_PAUSE_S = 30.0
DeadLetterReason = Literal[
    "retries-exhausted",
    "rejected",
    "not-an-event",
    "reply-too-large",
    "ttl-exhausted",
    "internal",
]


class Answered(NamedTuple):
    """The subscriber answered. `malformed` says why a body that came is no reply.

    `too_large`: it may be an event, and is larger than what a Broker stores. `dropped`: why llm-d's
    router, if that has answered, has not brought it to a model.
    """

    status: int
    reply: CloudEvent | None = None
    malformed: str | None = None
    too_large: bool = False
    body: bytes = b""
    retry_after: str | None = None
    dropped: str | None = None

    @property
    def no_reply(self) -> DeadLetterReason:
        """Why what came back cannot be stored as a reply."""
        return "reply-too-large" if self.too_large else "not-an-event"


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No complete answer came: refused, reset, timed out, or with headers that nobody reads."""

    detail: str
    timed_out: bool = False


Outcome = Answered | Unanswered


def pause_s(outcome: Outcome, policy: DeliveryPolicy, now: datetime) -> float:
    """For how many seconds the subscriber asked for a pause; 0: it did not.

    It is overloaded or not ready (429, 503) and says until when. No event of the Trigger is
    delivered to it before (data-plane.md recommends such throttling), for at most `retryAfterMax`,
    or half a minute where the delivery does not say.
    """
    bound = policy.retry_after_max_s
    return min(asked_s(outcome, now), _LONGEST_PAUSE_S if bound is None else bound)


def asked_s(outcome: Outcome, now: datetime) -> float:
    """Seconds in the Retry-After of an overloaded subscriber (429, 503); else 0."""
    if not isinstance(outcome, Answered) or outcome.status not in _HEEDS_RETRY_AFTER:
        return 0.0
    return retry_after_s(outcome.retry_after, now) or 0.0


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds in a Retry-After header, delay or HTTP date (RFC 9110 §10.2.3); None if neither."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # numbers that no date holds
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
