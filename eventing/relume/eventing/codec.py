"""CloudEvents over HTTP: binary, structured and batched content mode (HTTP binding 1.0.2).

Pure: headers and a body in, events out, and back. Nothing here does I/O or imports a web framework.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from relume.eventing import json_format
from relume.eventing.event import CloudEvent, InvalidEvent, canonical

Headers = Sequence[tuple[str, str]]

STRUCTURED_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"

_REQUIRED = frozenset({"ce-specversion", "ce-id", "ce-source", "ce-type"})
_CHARSETS = frozenset(
    {"utf-8", "us-ascii", "iso-8859-1", "utf-16", "utf-16le", "utf-16be", "utf-32"}
)
# HTTP binding §3.1.3.2: what must be percent-encoded is space, `"`, `%` and all outside U+21..U+7E.
_UNSAFE = re.compile(r"[^!#$&-~]")
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NOT_IN_A_HEADER = re.compile(r"[^\t -~]")


class Mode(Enum):
    """The content modes of HTTP binding §3."""

    BINARY = "binary"
    STRUCTURED = "structured"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Message:
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
    content_type = _header(headers, "content-type").lower()
    if content_type.startswith("application/cloudevents-batch"):
        return Mode.BATCH
    if content_type.startswith("application/cloudevents"):
        return Mode.STRUCTURED
    if any(name.lower() in _REQUIRED for name, _ in headers):
        return Mode.BINARY
    return None


def decode(headers: Headers, body: bytes) -> Message:
    """The events in an HTTP request or response; version 0.3 is read as 1.0.

    Header names in any case, values as latin-1 text. Raises InvalidEvent, also for plain HTTP.
    """
    mode = mode_of(headers)
    if mode is None:
        raise InvalidEvent(
            "not a CloudEvent: no ce-specversion header and no application/cloudevents content type"
        )
    if mode is Mode.BINARY:
        return Message(mode, (_decode_binary(headers, body),))
    content_type = _header(headers, "content-type")
    expected = BATCH_TYPE if mode is Mode.BATCH else STRUCTURED_TYPE
    if content_type.partition(";")[0].strip().lower() != expected:
        raise InvalidEvent(f"content-type: {content_type!r} is not supported, send {expected}")
    text = _text(body, json_format.charset_of(content_type) or "utf-8")
    if mode is Mode.BATCH:
        return Message(mode, json_format.load_batch(text))
    return Message(mode, (json_format.load_event(text),))


def encode(event: CloudEvent, mode: Mode) -> tuple[list[tuple[str, str]], bytes]:
    """Headers (lower case) and body of one event; BATCH makes a batch of one."""
    if mode is Mode.BATCH:
        return encode_batch((event,))
    if mode is Mode.STRUCTURED:
        return [("content-type", STRUCTURED_TYPE)], json_format.dump_event(event)
    headers = [
        ("ce-" + name, encode_value(canonical(value)))
        for name, value in event.attributes.items()
        if name != "datacontenttype"
    ]
    if event.datacontenttype is not None:
        headers.append(("content-type", event.datacontenttype))
    return headers, event.data or b""


def encode_batch(events: Iterable[CloudEvent]) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body of a batch; send one only to who asked for batches (§3.3)."""
    return [("content-type", BATCH_TYPE)], json_format.dump_batch(events)


def encode_value(value: str) -> str:
    """An attribute's string as a header value (§3.1.3.2): percent-encoded UTF-8, upper-case hex."""
    return _UNSAFE.sub(lambda c: "".join(f"%{byte:02X}" for byte in c[0].encode()), value)


def decode_value(name: str, value: str) -> str:
    """A header value as an attribute's string: unquote, then one round of percent-decoding.

    Raises InvalidEvent for what a sender had to encode and did not.
    """
    value = value.strip(" \t")
    if bad := _NOT_IN_A_HEADER.search(value):
        raise InvalidEvent(f"{name}: character U+{ord(bad[0]):04X} must be percent-encoded")
    if '"' in value:
        value = _QUOTED.sub(
            lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), _balanced(name, value)
        )
    if "%" not in value:
        return value
    if _STRAY_PERCENT.search(value):
        raise InvalidEvent(f"{name}: '%' must be percent-encoded as %25")
    try:
        return _ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), value)
    except UnicodeDecodeError:
        raise InvalidEvent(f"{name}: percent-encoded bytes are not UTF-8") from None


def _balanced(name: str, value: str) -> str:
    if '"' in _QUOTED.sub("", value):
        raise InvalidEvent(f"{name}: unbalanced double quote")
    return value


def _decode_binary(headers: Headers, body: bytes) -> CloudEvent:
    attributes: dict[str, object] = {}
    for raw_name, value in headers:
        name = raw_name.lower()
        if name == "content-type":
            attribute, text = "datacontenttype", value.strip(" \t")
        elif name.startswith("ce-"):
            attribute, text = name[3:], decode_value(name, value)
        else:
            continue
        if name == "ce-datacontenttype":
            raise InvalidEvent("ce-datacontenttype: send Content-Type instead")
        if attribute in attributes:
            raise InvalidEvent(f"{name}: header appears twice")
        attributes[attribute] = text
    return CloudEvent.create(json_format.upgraded(attributes), body or None)


def _header(headers: Headers, wanted: str) -> str:
    for name, value in headers:
        if name.lower() == wanted:
            return value.strip()
    return ""


def _text(body: bytes, charset: str) -> str:
    if charset not in _CHARSETS:
        raise InvalidEvent(f"content-type: charset {charset!r} is not supported, send utf-8")
    try:
        # A byte order mark is not JSON, yet RFC 8259 §8.1 lets a reader ignore one.
        return body.decode("utf-8-sig" if charset == "utf-8" else charset)
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"the body is not {charset}: {error.reason}") from None
