"""CloudEvents over HTTP: binary, structured and batched content mode (HTTP binding 1.0.2).

Pure: headers and a body in, events out, and back. Nothing here does I/O or imports a web framework.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent, InvalidEvent, canonical, charset_of
from relume.cloudevents.header_value import decode_values, encode_values
from relume.cloudevents.headers import Header, mode_of_type, sort
from relume.cloudevents.headers import Mode as Mode

Headers = Sequence[Header]

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"


class Message(NamedTuple):
    """What one HTTP message carried: exactly one event, except in batched mode."""

    mode: Mode
    events: tuple[CloudEvent, ...]

    @property
    def event(self) -> CloudEvent:
        """The only event. Raises InvalidEvent when there is not exactly one."""
        if len(self.events) != 1:
            raise InvalidEvent(f"expected exactly one event, got {len(self.events)}")
        return self.events[0]


def mode_of(headers: Headers) -> Mode | None:
    """The content mode, or None when the message is plain HTTP and no event (§3, first lines).

    The content type decides before any `ce-` header does. A message with some but not all of the
    required `ce-` headers is a (bad) event in binary mode.
    """
    return sort(headers).mode


def decode(headers: Headers, body: bytes, *, lenient: bool = False) -> Message:
    """The events in an HTTP request or response; version 0.3 is read as 1.0.

    Header names in any case, values as latin-1 text; `lenient` reads those that are not encoded, as
    `decode_value` says. Raises InvalidEvent, also for plain HTTP; in a batch it names the index of
    the event, from 0.
    """
    given = sort(headers)
    mode, content_types = given.mode, given.content_types
    if mode is None:
        raise InvalidEvent(
            "not a CloudEvent: no ce-specversion header and no application/cloudevents content type"
        )
    if len(content_types) > 1:
        raise InvalidEvent("content-type: header appears twice")
    content_type = content_types[0] if content_types else None
    if mode is Mode.BINARY:
        return Message(mode, (_from_binary(content_type, given.context, body, lenient),))
    expected = BATCH_TYPE if mode is Mode.BATCH else STRUCTURED_TYPE
    if content_type is None or content_type.partition(";")[0].strip().lower() != expected:
        raise InvalidEvent(f"content-type: {content_type!r} is not supported, send {expected}")
    charset = charset_of(content_type) or "utf-8"
    if mode is Mode.BATCH:
        return Message(mode, json_format.load_batch(body, charset))
    return Message(mode, (json_format.load_event(body, charset),))


def encode(event: CloudEvent, mode: Mode) -> tuple[list[Header], bytes]:
    """Headers (lower case) and body of one event; BATCH makes a batch of one.

    Data that is an event itself cannot go in BINARY: its type would be read as another mode.
    """
    if mode is Mode.BATCH:
        return encode_batch((event,))
    content_type = event.datacontenttype
    if mode is Mode.STRUCTURED or mode_of_type(content_type or "") is not None:
        return [("content-type", STRUCTURED_TYPE)], json_format.dump_event(event)
    headers = encode_values(
        [
            ("ce-" + name, value if type(value) is str else canonical(value))
            for name, value in event.attributes.items()
            if name != "datacontenttype"
        ]
    )
    if content_type is not None:
        headers.append(("content-type", content_type))
    return headers, event.data or b""


def encode_batch(events: Iterable[CloudEvent]) -> tuple[list[Header], bytes]:
    """Headers and body of a batch; send one only to who asked for batches (§3.3)."""
    return [("content-type", BATCH_TYPE)], json_format.dump_batch(events)


def _from_binary(
    content_type: str | None, context: list[Header], body: bytes, lenient: bool
) -> CloudEvent:
    attributes: dict[str, object] = {}
    for name, value in decode_values(context, lenient=lenient):
        attribute = name[3:]
        if attribute in attributes:
            raise InvalidEvent(f"{name}: header appears twice")
        attributes[attribute] = value
    if "datacontenttype" in attributes:
        raise InvalidEvent("ce-datacontenttype: send Content-Type instead")
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    return CloudEvent.create(json_format.upgraded(attributes), body or None)
