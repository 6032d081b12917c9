"""Whether an event can travel: its attributes become HTTP headers on the way to a subscriber.

An event is refused at the door when it cannot. A reply that cannot is `reply-too-large`.
"""

from collections.abc import Mapping

import orjson

from relume.base.errors import InvalidInput
from relume.base.limits import (
    ATTRIBUTE_BYTES,
    ATTRIBUTE_NAME_BYTES,
    ATTRIBUTES,
    ATTRIBUTES_BYTES,
)
from relume.base.vocabulary import (
    ARRIVAL_TIME,
    BROKER_TTL,
    DEAD_LETTER_REASON,
    ERROR_CODE,
    ERROR_DATA,
    ERROR_DESTINATION,
)
from relume.cloudevents.event import AttributeValue, canonical
from relume.cloudevents.header_value import encode_value

# What Brokers add on the way. It does not count, or a dead letter would be larger than its event.
_ADDED = frozenset(
    {ARRIVAL_TIME, BROKER_TTL, DEAD_LETTER_REASON, ERROR_CODE, ERROR_DATA, ERROR_DESTINATION}
)
# The most bytes that one character takes: four in UTF-8, three for each when percent-encoded.
_MOST_PER_CHARACTER = 12


class AttributesTooLong(InvalidInput):
    """The attributes do not fit the headers of an HTTP request."""

    reason = "attributes-too-long"


def check_room(attributes: Mapping[str, AttributeValue]) -> None:
    """Raise AttributesTooLong, naming the attribute, unless all of them fit as headers."""
    # As JSON they have at least as many bytes as there are characters in names and values.
    most = len(orjson.dumps(attributes)) * _MOST_PER_CHARACTER
    if most <= ATTRIBUTE_BYTES and len(attributes) <= ATTRIBUTES:
        return  # nearly every event, without a look at how each value is written
    total = 0
    counted = 0
    for name, value in attributes.items():
        size = len(encode_value(canonical(value)))
        if len(name) > ATTRIBUTE_NAME_BYTES:
            raise AttributesTooLong(
                f"{name[:40]}…: the name has {len(name)} characters, and may have "
                f"{ATTRIBUTE_NAME_BYTES}"
            )
        if size > ATTRIBUTE_BYTES:
            raise AttributesTooLong(
                f"{name}: takes {size} bytes as an HTTP header, and may take {ATTRIBUTE_BYTES}; "
                "send it in the data"
            )
        if name not in _ADDED:
            counted += 1
            total += len(name) + size
    if counted > ATTRIBUTES:
        raise AttributesTooLong(f"{counted} attributes: an event may have at most {ATTRIBUTES}")
    if total > ATTRIBUTES_BYTES:
        raise AttributesTooLong(
            f"the attributes take {total} bytes as HTTP headers, and may take {ATTRIBUTES_BYTES}; "
            "send some of them in the data"
        )
