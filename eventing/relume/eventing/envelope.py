"""How an event lies in the store: one line of JSON with its attributes, then its data untouched.

A structured event would cost a parse and a print of the payload on every hop, and binary mode
would lose the types of attributes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from relume.cloudevents.event import CloudEvent, InvalidEvent


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event, and the HTTP headers of its producer that every delivery repeats.

    `trigger` is the only Trigger that it is for (None: every one), and `redrive` the number of the
    dead letter that it was before it was put back (0: it never was one). Both lie beside the event
    and not in it, so that nothing from outside can set them and no subscriber sees them. `via` is
    the Trigger whose subscriber answered with this event, until it is stored.
    """

    event: CloudEvent
    headers: Mapping[str, str] = field(default_factory=dict)
    trigger: str | None = None
    redrive: int = 0
    via: str = ""

    def pack(self) -> bytes:
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
    with the request's id under another type, and `via` for replies: the same one comes again when
    its Trigger's delivery is repeated, while another Trigger's reply is another answer, also from
    the same service under the same id. For an event that comes back into a Broker which serves as
    its own dead letter sink, where it failed and how often it went around are added.
    """
    attributes = event.attributes
    parts = [event.source, event.id, event.type, via]
    if failed_at := attributes.get("knativeerrordest"):
        parts += [str(failed_at), str(attributes.get("knativebrokerttl", ""))]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def burial(envelope: Envelope, trigger: str) -> str:
    """The key of a dead letter: one for each Trigger, and one more after each redrive.

    Replies through two Triggers may have one name (`via` is not stored), and are two events: when
    it came and what it says are added.
    """
    event = envelope.event
    came = hashlib.blake2b(str(event.attributes.get("knativearrivaltime")).encode(), digest_size=16)
    came.update(event.data or b"")
    return f"{identity(event)}.{came.hexdigest()}.{envelope.redrive}.{trigger}"
