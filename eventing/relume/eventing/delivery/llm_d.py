"""What llm-d's router is told with an event, and what its drops mean for the next attempt. Pure.

A gateway or an InferencePool may be the subscriber of a Trigger. The names are those of
llm-d-router ebab6879: the request headers in pkg/epp/metadata/consts.go, the reasons in
pkg/common/error/error.go, their statuses in pkg/epp/requestcontrol/admission.go and director.go.

A request that the router has rejected has reached no model: the pool is full, empty or restarting.
Such an attempt costs the event none of its retries, so that no dead letter is made of an event only
because a pool was asleep. A request that was evicted had begun, and counts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from relume.base.vocabulary import LLM_D_HEADERS
from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.decision import Action, Retry, decide
from relume.eventing.delivery.outcome import Answered, Outcome, asked_s
from relume.eventing.delivery.route import DeliveryPolicy

DROPPED_HEADER = "x-llm-d-request-dropped-reason"
#: So many attempts of one event may be free of charge: more than an hour where the pool is empty.
MOST_FREE = 1000


@dataclass(frozen=True, slots=True)
class Drop:
    """What follows from one reason: the seconds to wait, None where the attempt counts."""

    free_after_s: float | None


#: By the router's word. A word that is not here is judged by its status, as any answer is.
DROPS: Mapping[str, Drop] = {
    "rejected-saturated": Drop(2.0),
    "rejected-no-endpoints": Drop(5.0),  # the pool is at zero, or a replica of it still loads
    "rejected-ttl-expired": Drop(1.0),  # it has waited in the router already
    "rejected-context-cancelled": Drop(1.0),
    "rejected-shutting-down": Drop(1.0),
    "evicted": Drop(None),
    "evicted-queue-pressure": Drop(None),
    "evicted-priority": Drop(None),
}


@dataclass(frozen=True, slots=True)
class FreeRetry(Retry):
    """Try again; the attempt does not count."""


def router_headers(event: CloudEvent) -> list[tuple[str, str]]:
    """The router's headers, for the extensions of an event that ask for them.

    A value that no header can hold as it is is left out: the router would read another one.
    """
    attributes = event.attributes
    if LLM_D_HEADERS.keys().isdisjoint(attributes):
        return []  # nearly every event
    found = ((header, attributes.get(name)) for name, header in LLM_D_HEADERS.items())
    told = [(header, str(value)) for header, value in found if value is not None]
    return [(header, text) for header, text in told if text.isascii() and text.isprintable()]


def refused(status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> Answered:
    """The outcome of an answer that is no success, with what its headers say of a retry."""
    wanted = {"retry-after": "", DROPPED_HEADER: ""}
    for name, value in headers:
        if (lower := name.lower()) in wanted:
            wanted[lower] = wanted[lower] or value
    retry_after, dropped = (value or None for value in wanted.values())
    return Answered(status, body=body, retry_after=retry_after, dropped=dropped)


def decide_routed(
    outcome: Outcome, number: int, free: int, policy: DeliveryPolicy, now: datetime
) -> Action:
    """What to do after attempt `number` (1 is the first), where `free` attempts did not count."""
    reason = outcome.dropped if isinstance(outcome, Answered) else None
    drop = DROPS.get(reason or "") if policy.profile.heeds_drops else None
    if drop is None or drop.free_after_s is None or free >= MOST_FREE:
        return decide(outcome, number - 1 - free, policy, now)
    heeded = min(asked_s(outcome, now), policy.retry_after_max_s or 0.0)
    return FreeRetry(max(drop.free_after_s, heeded), f"the router: {reason}")
