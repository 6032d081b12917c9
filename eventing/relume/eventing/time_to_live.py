"""What a Broker writes on an event that comes in, and takes off again before it goes out.

`knativearrivaltime` is when it came in. `knativebrokerttl` counts down by one on every way through
the Broker, so that a subscriber which answers its own answers ends some day; no subscriber sees it
(knative/eventing `pkg/broker`).
"""

from datetime import datetime

from relume.base.errors import InvalidInput
from relume.cloudevents.event import CloudEvent

TTL = "knativebrokerttl"
MAX_TTL = 255


class TtlExhausted(InvalidInput):
    """The event went through Brokers too often."""

    reason = "ttl-exhausted"


def rfc3339(at: datetime) -> str:
    """A UTC time with milliseconds."""
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def coming_in(event: CloudEvent, now: datetime) -> CloudEvent:
    """The event as it is stored. Raises TtlExhausted."""
    ttl = _ttl(event)
    ttl = MAX_TTL if ttl is None else ttl - 1
    if ttl <= 0:
        raise TtlExhausted(f"{TTL}: the event went through Brokers too often")
    return event.with_attributes(knativebrokerttl=ttl, knativearrivaltime=rfc3339(now))


def going_out(event: CloudEvent) -> CloudEvent:
    """The event as a subscriber sees it."""
    return event.with_attributes(knativebrokerttl=None)


def coming_back(
    reply: CloudEvent, request: CloudEvent, now: datetime, *, counted: bool = True
) -> CloudEvent:
    """A reply as it is stored: one way further than its request, where ways are `counted`.

    Raises TtlExhausted.
    """
    ttl = _ttl(request) if counted else None
    return coming_in(reply.with_attributes(knativebrokerttl=ttl), now)


def with_place(event: CloudEvent, partition: int, offset: int) -> CloudEvent:
    """The event as a Kafka Broker's subscriber and dead letter sink see it."""
    return event.with_attributes(knativekafkapartition=partition, knativekafkaoffset=offset)


def _ttl(event: CloudEvent) -> int | None:
    try:
        # A producer may write any number, also one that fits nowhere.
        return min(int(event.attributes[TTL]), MAX_TTL)
    except (KeyError, ValueError):
        return None
