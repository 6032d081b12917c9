"""The event that `relume send` posts, made of a file or of options."""

import codecs
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from relume.cli.errors import BadUsage
from relume.cli.inputs import read
from relume.cloudevents.event import CloudEvent, InvalidEvent, is_json, rfc3339
from relume.cloudevents.http import STRUCTURED_TYPE, decode

SOURCE = "/relume/send"
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def from_file(path: Path, changes: Mapping[str, str]) -> CloudEvent:
    """The event in a JSON file (structured format), with attributes changed by options.

    A missing `id` becomes a new one, a missing `specversion` 1.0, and a missing `source` `SOURCE`.
    The data is sent as it is written. Raises BadUsage, with the file and the line at which the
    JSON is wrong.
    """
    text = _read(path)
    members = _object(path, text)
    defaults = {"specversion": "1.0", "id": str(uuid4()), "source": SOURCE}
    missing = {name: value for name, value in defaults.items() if name not in members}
    if missing:
        # Inserted as text, so that the rest of the file is sent as it is written.
        rest = text.partition("{")[2]
        text = json.dumps(missing)[:-1] + ("," if members else "") + rest
    try:
        event = decode([("content-type", STRUCTURED_TYPE)], text.encode()).event
        return CloudEvent.create({**event.attributes, **changes}, event.data)
    except InvalidEvent as error:
        raise BadUsage(f"{path}: {error}") from None


def from_options(
    type_: str, data: str | None, content_type: str | None, changes: Mapping[str, str]
) -> CloudEvent:
    """A new event. `data` is text, `@FILE`, or `-` for standard input; None for no data.

    Without `content_type`, data that is a JSON object or array is application/json, other text is
    text/plain, and bytes that are not UTF-8 are application/octet-stream. Raises BadUsage.
    """
    body = None if data is None else _in_utf8(_data(data), content_type)
    attributes = {
        "id": str(uuid4()),
        "source": SOURCE,
        "type": type_,
        "time": rfc3339(datetime.now(UTC)),
    }
    if body is not None:
        attributes["datacontenttype"] = content_type or _guess(body)
    try:
        return CloudEvent.create({**attributes, **changes}, body)
    except InvalidEvent as error:
        raise BadUsage(f"the event is not valid: {error}") from None


def assignments(option: str, values: Sequence[str]) -> dict[str, str]:
    """The `NAME=VALUE`s of an option that may be repeated. Raises BadUsage."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise BadUsage(f"{option} {value}: write NAME=VALUE")
        found[name] = text
    return found


def _data(data: str) -> bytes:
    if data == "-":
        return read(Path("-"), f"--data {data}")
    if data.startswith("@"):
        return read(Path(data[1:] or "."), f"--data {data}")
    return data.encode("utf-8", "surrogateescape")  # bytes that are not text stay as they are


def _in_utf8(body: bytes, content_type: str | None) -> bytes:
    """Text with a byte order mark, as editors on Windows write it, in UTF-8 without one.

    JSON is sent so (RFC 8259 §8.1). Bytes that are no text are kept, as is text of another media
    type that the user names.
    """
    if content_type is not None and not is_json(content_type):
        return body
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError:
        return body
    return text.encode() if _is_text(text, marked=body.startswith(_MARKS)) else body


def _is_text(text: str, *, marked: bool) -> bool:
    """Whether bytes that were decoded are text: by their byte order mark, else as JSON."""
    if marked:
        return all(char.isprintable() or char.isspace() for char in text)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _guess(body: bytes) -> str:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    try:
        value = json.loads(text)
    except RecursionError:
        return "application/json"  # only brackets go that deep
    except ValueError:
        return "text/plain"
    return "application/json" if isinstance(value, dict | list) else "text/plain"


def _read(path: Path) -> str:
    """The text of a JSON file, in the encoding in which it is written (UTF-8, -16 or -32)."""
    try:
        raw = read(path, str(path))
        return raw.decode(json.detect_encoding(raw))
    except UnicodeDecodeError as error:
        raise BadUsage(f"{path}: not UTF-8 text: {error.reason}") from None


def _object(path: Path, text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        words = getattr(error, "msg", str(error))
        raise BadUsage(f"{path}:{line}: not JSON: {words.lower()}") from None
    except RecursionError:
        raise BadUsage(f"{path}:1: the JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadUsage(f"{path}:1: an event is a JSON object with id, source, type and data")
    return value
