"""The JSON event format 1.0.2 (media types `application/cloudevents+json` and `-batch+json`).

JSON data is cut out of the document as it was written, not parsed and printed again: numbers that
no runtime type holds and the order of members reach the consumer untouched.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Never

import orjson

from relume.cloudevents.event import (
    CloudEvent,
    InvalidEvent,
    charset_of,
    decoded,
    encoded,
    is_json,
    is_text,
)

_BOM = b"\xef\xbb\xbf"
# Where the parts of a document lie in its text: a parser gives values and forgets how they were
# written. These patterns walk a document that a parser has accepted, so they refuse nothing.
# Mostly the next quote ends a string; where a backslash stands before it, look at every escape.
_INSIDE = rb'(?:[^"]*+(?=")(?<!\\)|[^"\\]*+(?:\\.[^"\\]*+)*+)'
_STRING = b'"' + _INSIDE + b'"'
_GAP = re.compile(rb"[\s,\[]*+")
# A member's name, and its value unless that is an object or an array.
_MEMBER = re.compile(rb'[\s,{]*+"(' + _INSIDE + rb')"\s*+:\s*+(' + _STRING + rb"|[^\s,{}\[\]]++)?")
_OBJECT_END = re.compile(rb"[\s{]*+}")
# Up to the next bracket that is not inside of a string; what is nested less than four deep (a chat,
# a matrix) is passed over in one go.
_FLAT = rb'[^"\[\]{}]++|' + _STRING
_NESTED = _FLAT
for _ in range(3):
    _NESTED = _FLAT + rb"|[\[{](?:" + _NESTED + rb")*+[\]}]"
_TO_BRACKET = re.compile(b"(?:" + _NESTED + rb")*+[\[\]{}]")
_WHOLE = re.compile(_NESTED)


@dataclass(frozen=True, slots=True)
class _Members:
    """How many members an object has, duplicates too, its last `data` as written, and its end."""

    count: int
    data: bytes
    end: int


def dump_event(event: CloudEvent) -> bytes:
    """One event as a JSON object in UTF-8."""
    return orjson.dumps(_members(event))


def dump_batch(events: Iterable[CloudEvent]) -> bytes:
    """Events as a JSON array in UTF-8 (JSON format §4); the array may be empty."""
    return orjson.dumps([_members(event) for event in events])


def load_event(body: bytes, charset: str = "utf-8") -> CloudEvent:
    """The event in a JSON object. Raises InvalidEvent."""
    body = _in_utf8(body, charset)
    document = _parsed(body)
    if not isinstance(document, dict):
        raise InvalidEvent("the body must be a JSON object")
    return _event(document, _members_at(body, 0))


def load_batch(body: bytes, charset: str = "utf-8") -> tuple[CloudEvent, ...]:
    """The events in a JSON array, maybe none. Raises InvalidEvent with the index, from 0."""
    body = _in_utf8(body, charset)
    documents = _parsed(body)
    if not isinstance(documents, list):
        raise InvalidEvent("the body must be a JSON array")
    events: list[CloudEvent] = []
    at = _next_element(body, 0)
    for index, document in enumerate(documents):
        try:
            if not isinstance(document, dict):
                raise InvalidEvent("an event must be a JSON object")
            written = _members_at(body, at)
            events.append(_event(document, written))
        except InvalidEvent as error:
            raise InvalidEvent(f"[{index}]: {error}") from None
        at = _next_element(body, written.end)
    return tuple(events)


def upgraded(attributes: dict[str, object]) -> dict[str, object]:
    """Version 0.3 attributes under their 1.0 names; 1.0 attributes as they are.

    Raises InvalidEvent when specversion is missing.
    """
    if "specversion" not in attributes:
        raise InvalidEvent("specversion: required attribute is missing")
    if attributes["specversion"] != "0.3":
        return attributes
    attributes["specversion"] = "1.0"
    # How `data` was encoded is no attribute any more, and a schema is no `schemaurl`.
    attributes.pop("datacontentencoding", None)
    if "schemaurl" in attributes:
        attributes["dataschema"] = attributes.pop("schemaurl")
    return attributes


def _members(event: CloudEvent) -> dict[str, object]:
    members: dict[str, object] = dict(event.attributes)
    if event.data is not None:
        name, value = _data_member(event.data, event.datacontenttype)
        members[name] = value
    return members


def _data_member(data: bytes, media_type: str | None) -> tuple[str, object]:
    # Only what a reader turns back into the same bytes (space around JSON aside) goes into `data`;
    # never data without a type, which a reader takes for JSON where the producer did not say so.
    if media_type is not None and (text := _as_text(data, media_type)) is not None:
        if is_text(media_type):
            return "data", text
        if is_json(media_type) and _is_valid_json(data):
            return "data", orjson.Fragment(data)
    return "data_base64", base64.b64encode(data).decode("ascii")


def _as_text(data: bytes, media_type: str) -> str | None:
    """The text that `data` is under its media type, if the same bytes come back from it."""
    try:
        text = decoded(data, charset_of(media_type) or "utf-8")
        return text if encoded(text, media_type) == data else None
    except (LookupError, UnicodeError):
        return None


def _is_valid_json(data: bytes) -> bool:
    # As deep as it will stand in a batch: a parser that reads it alone may refuse it there.
    try:
        match orjson.loads(b"[[%b]]" % data):
            case [[_]]:
                return True
    except orjson.JSONDecodeError:
        pass
    return False


def _event(document: dict[str, object], written: _Members) -> CloudEvent:
    if written.count != len(document):
        raise InvalidEvent("a member of the JSON object appears twice")
    # A JSON null is an unset attribute (JSON format §2.2).
    attributes = {
        name: value
        for name, value in document.items()
        if value is not None and name != "data" and name != "data_base64"
    }
    encoding = attributes.get("datacontentencoding")
    is_0_3 = attributes.get("specversion") == "0.3"
    attributes = upgraded(attributes)
    if "data" not in document:
        data = _from_base64("data_base64", document.get("data_base64"))
    elif document.get("data_base64") is not None:
        raise InvalidEvent("data_base64: cannot stand beside data")
    elif is_0_3 and encoding is not None and isinstance(document["data"], str):
        data = _decoded_0_3(document["data"], encoding)
    else:
        data = _data(document["data"], written.data, attributes)
    return CloudEvent.create(attributes, data)


def _data(value: object, written: bytes, attributes: dict[str, object]) -> bytes | None:
    """The bytes that the member `data` stands for (JSON format §3.1.2)."""
    media_type = attributes.get("datacontenttype")
    if media_type is None:
        # Without a type the data is JSON; said aloud, so that other formats carry it.
        attributes["datacontenttype"] = "application/json"
        return written
    if not isinstance(media_type, str):
        return None  # refused with the attribute
    try:
        if is_json(media_type):
            if charset_of(media_type) in (None, "utf-8"):
                return written
            return encoded(written.decode(), media_type)
        if value is None:
            return None
        # Not a string, under a type that is not JSON: the JSON text is what there is.
        return encoded(value if isinstance(value, str) else written.decode(), media_type)
    except (LookupError, UnicodeError) as error:
        raise InvalidEvent(f"data: does not fit datacontenttype {media_type!r}: {error}") from None


def _decoded_0_3(value: str, encoding: object) -> bytes | None:
    # Version 0.3 named the encoding in an attribute, in any case (RFC 2045 §6.1).
    if not isinstance(encoding, str) or encoding.lower() != "base64":
        raise InvalidEvent(f"datacontentencoding: {encoding!r} is not supported, send base64")
    return _from_base64("data", value)


def _from_base64(name: str, value: object) -> bytes | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidEvent(f"{name}: must be base64 (RFC 4648)")


def _in_utf8(body: bytes, charset: str) -> bytes:
    # A byte order mark is not JSON, yet RFC 8259 §8.1 lets a reader ignore one.
    if charset == "utf-8":
        return body.removeprefix(_BOM)
    try:
        return decoded(body, charset).encode()
    except LookupError as error:
        raise InvalidEvent(f"content-type: {error}") from None
    except UnicodeError as error:
        raise InvalidEvent(f"the body is not {charset}: {error}") from None


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    # Grammatical JSON that orjson has no value for: 1e400, a lone surrogate in an escape.
    try:
        return _PATIENT.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"the body is not valid JSON: {error}") from None


def _refuse_constant(name: str) -> Never:
    raise InvalidEvent(f"{name} is not JSON (RFC 8259)")


def _integer(text: str) -> int | float:
    # What has more digits fits no attribute, and would take long to convert.
    return int(text) if len(text) < 12 else float(text)


_PATIENT = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)


def _members_at(body: bytes, at: int) -> _Members:
    """The members of the object whose `{` is the next character from `at` that is no space."""
    count, data = 0, b""
    while member := _MEMBER.match(body, at):
        count += 1
        start, at = member.span(2)
        if start < 0:
            start = member.end()
            at = _closing_bracket(body, start)
        name = member[1]
        if name == b"data" or (b"\\" in name and json.loads(b'"%b"' % name) == "data"):
            data = body[start:at]
    end = _OBJECT_END.match(body, at)
    return _Members(count, data, end.end() if end else at)


def _next_element(body: bytes, at: int) -> int:
    """Where the array's next element begins: after its `[`, or after the element that ends here."""
    gap = _GAP.match(body, at)
    return gap.end() if gap else at


def _closing_bracket(body: bytes, at: int) -> int:
    if whole := _WHOLE.match(body, at):
        return whole.end()
    depth = 0
    while found := _TO_BRACKET.match(body, at):
        at = found.end()
        depth += 1 if body[at - 1] in b"[{" else -1
        if depth == 0:
            break
    return at
