"""The JSON event format 1.0.2 (media types `application/cloudevents+json` and `-batch+json`).

The `data` member is cut out of the document as text, not parsed and printed again, so numbers that
no runtime type holds and the order of members reach the consumer as they were written.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Never

import orjson

from relume.eventing.event import CloudEvent, InvalidEvent, is_json

_SPACE = re.compile(r"[ \t\n\r]*")
_TEXT_TYPE = re.compile(r"text/|application/xml|[^;]*\+xml", re.IGNORECASE)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
# Version 0.3 called it `schemaurl`, and named the encoding of `data` in an attribute.
_RENAMED_SINCE_0_3 = {"schemaurl": "dataschema"}


def charset_of(media_type: str | None) -> str | None:
    """The charset parameter, lower case, or None."""
    found = _CHARSET.search(media_type or "")
    return found[1].lower() if found else None


def dump_event(event: CloudEvent) -> bytes:
    """One event as a JSON object in UTF-8."""
    return orjson.dumps(_members(event))


def dump_batch(events: Iterable[CloudEvent]) -> bytes:
    """Events as a JSON array in UTF-8 (JSON format §4); the array may be empty."""
    return orjson.dumps([_members(event) for event in events])


def load_event(text: str) -> CloudEvent:
    """The event in a JSON object. Raises InvalidEvent."""
    with _json_errors():
        event, end = _event_at(text, _skip(text, 0))
        _end(text, end)
    return event


def load_batch(text: str) -> tuple[CloudEvent, ...]:
    """The events in a JSON array, maybe none. Raises InvalidEvent."""
    events: list[CloudEvent] = []
    with _json_errors():
        at = _expect(text, _skip(text, 0), "[")
        while text[at : at + 1] != "]":
            if events:
                at = _expect(text, at, ",")
            event, at = _event_at(text, at)
            events.append(event)
            at = _skip(text, at)
        _end(text, at + 1)
    return tuple(events)


def upgraded(attributes: Mapping[str, object]) -> dict[str, object]:
    """Version 0.3 attributes under their 1.0 names; 1.0 attributes as they are.

    Raises InvalidEvent when specversion is missing.
    """
    if "specversion" not in attributes:
        raise InvalidEvent("specversion: required attribute is missing")
    if attributes["specversion"] != "0.3":
        return dict(attributes)
    kept = {k: v for k, v in attributes.items() if k != "datacontentencoding"}
    return {_RENAMED_SINCE_0_3.get(k, k): v for k, v in kept.items()} | {"specversion": "1.0"}


def _members(event: CloudEvent) -> dict[str, object]:
    members: dict[str, object] = dict(event.attributes)
    if event.data is not None:
        name, value = _data_member(event.data, event.datacontenttype)
        members[name] = value
    return members


def _data_member(data: bytes, media_type: str | None) -> tuple[str, object]:
    # Only what a reader turns back into the same bytes (space around JSON aside) goes into `data`.
    if charset_of(media_type) in (None, "utf-8", "us-ascii"):
        # `null` would read as "no data", and an absent type as JSON where the producer said none.
        if media_type is not None and is_json(media_type):
            if data.strip() != b"null" and _is_valid_json(data):
                return "data", orjson.Fragment(data)
        elif media_type is not None and _TEXT_TYPE.match(media_type):
            try:
                return "data", data.decode()
            except UnicodeDecodeError:
                pass
    return "data_base64", base64.b64encode(data).decode("ascii")


def _is_valid_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _refuse_constant(name: str) -> Never:
    raise InvalidEvent(f"{name} is not JSON (RFC 8259)")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _event_at(text: str, start: int) -> tuple[CloudEvent, int]:
    """The event whose `{` is at `start`, and where its text ends."""
    members, end = _members_at(text, start)
    attributes: dict[str, object] = {}
    for name, (value, _) in members.items():
        # A JSON null is an unset attribute (JSON format §2.2).
        if name not in ("data", "data_base64") and value is not None:
            attributes[name] = value
    encoding = attributes.get("datacontentencoding")
    upgraded_attributes = upgraded(attributes)
    data = _data(members, upgraded_attributes, encoding)
    return CloudEvent.create(upgraded_attributes, data), end


def _members_at(text: str, start: int) -> tuple[dict[str, tuple[object, str]], int]:
    """Every member's value and its text as written."""
    if text[start : start + 1] != "{":
        raise InvalidEvent("the body must be a JSON object")
    members: dict[str, tuple[object, str]] = {}
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}":
        if members:
            at = _expect(text, at, ",")
        if text[at : at + 1] != '"':
            raise InvalidEvent(f"the body is not valid JSON: member name expected at {at}")
        name, at = _DECODER.raw_decode(text, at)
        at = _expect(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, at)
        if name in members:
            raise InvalidEvent(f"{name}: member appears twice")
        members[name] = (value, text[at:end])
        at = _skip(text, end)
    return members, at + 1


def _data(
    members: dict[str, tuple[object, str]], attributes: dict[str, object], encoding: object
) -> bytes | None:
    if members.get("data_base64", (None, ""))[0] is not None:
        if "data" in members:
            raise InvalidEvent("data_base64: cannot stand beside data")
        return _from_base64("data_base64", members["data_base64"][0])
    value, written = members.get("data", (None, ""))
    if value is None:
        return None
    if encoding is not None:  # version 0.3
        if encoding != "base64":
            raise InvalidEvent(f"datacontentencoding: {encoding!r} is not supported, send base64")
        return _from_base64("data", value)
    media_type = attributes.get("datacontenttype")
    if media_type is None:
        # §3.1: without a type the data is JSON; said aloud, so that other formats carry it.
        attributes["datacontenttype"] = "application/json"
    elif isinstance(value, str) and isinstance(media_type, str) and not is_json(media_type):
        return _utf8(value)
    return _utf8(written)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidEvent("data: holds a lone surrogate, which is not text") from None


def _from_base64(name: str, value: object) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise InvalidEvent(f"{name}: must be base64 (RFC 4648)")


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise InvalidEvent(f"the body is not valid JSON: {mark!r} expected at {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise InvalidEvent(f"the body is not valid JSON: more text after its end at {at}")


@contextmanager
def _json_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"the body is not valid JSON: {error}") from None
