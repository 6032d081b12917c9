"""An event as a Broker stores it, and what the Broker writes on it on its way in and out.

In the store an event is one line of JSON with its attributes, then its data untouched. A structured
event would cost a parse and a print of the payload on every hop, and binary mode would lose the
types of attributes.

`knativearrivaltime` is when the event came in. `knativebrokerttl` counts down by one on every way
through the Broker, so that a subscriber which answers its own answers ends some day; no subscriber
sees it (knative/eventing `pkg/broker`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from relume.base.errors import InvalidInput
from relume.base.vocabulary import ARRIVAL_TIME, BROKER_TTL, ERROR_DESTINATION
from relume.cloudevents.event import AttributeValue, CloudEvent, InvalidEvent, rfc3339
from relume.eventing.header_room import check_room

MAX_TTL = 255


class TtlExhausted(InvalidInput):
    """The event went through Brokers too often."""

    reason = "ttl-exhausted"


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event, and the HTTP headers of its producer that every delivery repeats.

    `trigger` is the only Trigger that it is for (None: every one). `redrive` is the number of the
    dead letter that it was before it was put back (0: it never was one). Both are stored beside
    the event and not in it, so that nothing from outside can set them and no subscriber sees them.
    `via` is the Trigger whose subscriber answered with this event, and `key` its key in the log
    where that is not its `identity`; neither is stored.
    """

    event: CloudEvent
    headers: Mapping[str, str] = field(default_factory=dict)
    trigger: str | None = None
    redrive: int = 0
    via: str = ""
    key: str = ""

    def pack(self) -> bytes:
        """The stored form."""
        mark = () if self.trigger is None else (self.trigger, self.redrive)
        head = orjson.dumps((self.event.attributes, self.headers, *mark))
        return head if self.event.data is None else b"%b\n%b" % (head, self.event.data)

    @classmethod
    def unpack(cls, stored: bytes) -> "Envelope":
        """Raises InvalidEvent when the bytes were not written by `pack`."""
        head, separator, data = stored.partition(b"\n")
        try:
            attributes, headers, *mark = orjson.loads(head)
        except (ValueError, TypeError) as error:
            raise InvalidEvent(f"the stored event is damaged: {error}") from None
        return cls(CloudEvent(attributes, data if separator else None), headers, *mark)


def identity(event: CloudEvent, via: str = "") -> str:
    """A digest that the same event always has, and no other: the key of duplicate suppression.

    (source, id) names an event (spec 1.0.2, "id"). The type is added for functions that answer
    with the request's id under another type. `via` is added for replies: the same reply comes
    again when its Trigger's delivery is repeated, but the reply of another Trigger is another
    answer, even from the same service under the same id. For an event that comes back into a
    Broker which serves as its own dead letter sink, where it failed and its time to live are added.
    """
    attributes = event.attributes
    text = f"{attributes['source']}\0{attributes['id']}\0{attributes['type']}\0{via}"
    if failed_at := attributes.get(ERROR_DESTINATION):
        text += f"\0{failed_at}\0{attributes.get(BROKER_TTL, '')}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def key_of(envelope: Envelope) -> str:
    """By what the log knows the event when it is stored twice."""
    return envelope.key or identity(envelope.event, envelope.via)


def coming_in(event: CloudEvent, now: datetime) -> CloudEvent:
    """The event as it is stored. Raises TtlExhausted, AttributesTooLong."""
    check_room(event.attributes)
    ttl = _ttl(event)
    ttl = MAX_TTL if ttl is None else ttl - 1
    if ttl <= 0:
        raise TtlExhausted(f"{BROKER_TTL}: the event went through Brokers too often")
    came: dict[str, AttributeValue] = {BROKER_TTL: ttl, ARRIVAL_TIME: rfc3339(now)}
    return CloudEvent({**event.attributes, **came}, event.data)


def going_out(event: CloudEvent) -> CloudEvent:
    """The event as a subscriber sees it."""
    attributes = {**event.attributes}
    attributes.pop(BROKER_TTL, None)
    return CloudEvent(attributes, event.data)


def coming_back(
    reply: CloudEvent, request: CloudEvent, now: datetime, *, counted: bool
) -> CloudEvent:
    """A reply as it is stored: one way further than its request, where ways are `counted`.

    Raises TtlExhausted, AttributesTooLong.
    """
    ttl = _ttl(request) if counted else None
    return coming_in(reply.with_attributes(**{BROKER_TTL: ttl}), now)


def _ttl(event: CloudEvent) -> int | None:
    if (told := event.attributes.get(BROKER_TTL)) is None:
        return None
    try:
        # A producer may write any number, also one that does not fit an attribute.
        return min(int(told), MAX_TTL)
    except ValueError:
        return None
