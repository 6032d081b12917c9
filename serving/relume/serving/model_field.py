"""The `model` that a request's body names, in JSON or in a form. Pure.

JSON is read as vLLM reads it, in UTF-8, UTF-16 or UTF-32 and with or without a byte order mark.
Forms are what `/v1/audio/transcriptions` takes: multipart/form-data (RFC 7578) or url-encoded.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson

from relume.serving.errors import BadRequest, ModelUnnamed

MOST_FIELDS = 1000
"""Fields in one form, as in Starlette's parser. More than these are refused."""
# No more of the line is looked at than a client writes: the time for it can be its square.
_DISPOSITION = re.compile(rb"^content-disposition:([^\r\n]{0,500})", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb';[ \t]*([^=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"]*))')
ADD = 'add "model" to the body, or ?model=NAME to the address'


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model, and how the same body is written with another name for it."""

    name: str
    renamed: Callable[[str], bytes]


def named_in(content_type: str, body: bytes) -> NamedModel:
    """Return the model that a body names.

    Raises BadRequest for a body that cannot be read, and ModelUnnamed.
    """
    if content_type == "application/json":
        return _in_json(body)
    header = Message()
    header["content-type"] = content_type
    kind = header.get_content_type()
    if kind == "multipart/form-data":
        return _in_multipart(body, header.get_boundary() or "")
    # curl sends JSON as a url-encoded form where it is told no media type.
    if kind == "application/x-www-form-urlencoded" and not body.lstrip().startswith(b"{"):
        return _in_form(body)
    return _in_json(body)


def _in_json(body: bytes) -> NamedModel:
    parsed, dumps = _parsed(body)
    name = parsed.get("model") if isinstance(parsed, dict) else None
    if not isinstance(name, str):
        raise ModelUnnamed(f"the request names no model: {ADD}")
    return NamedModel(name, lambda new: dumps({**parsed, "model": new}))


def _parsed(body: bytes) -> tuple[Any, Callable[[Any], bytes]]:
    """Return the JSON value, and what writes it again.

    Python's reader takes what orjson refuses and vLLM accepts: other encodings than UTF-8, a byte
    order mark, NaN, half of a surrogate pair.
    """
    try:
        return orjson.loads(body), orjson.dumps
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body), _dumps
        except (ValueError, RecursionError):
            raise BadRequest(f"the request body is not JSON: {error}") from error


def _dumps(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError as error:
        raise BadRequest("the request body is nested too deeply") from error


def _in_form(body: bytes) -> NamedModel:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise BadRequest(f"the request body is not a form: {error}") from error
    name = next((value for key, value in fields if key == "model"), None)
    if name is None:
        raise ModelUnnamed("the form names no model: add the field model, or ?model=NAME")

    def renamed(new: str) -> bytes:
        return urlencode([(k, new if k == "model" else v) for k, v in fields]).encode()

    return NamedModel(name, renamed)


def _in_multipart(body: bytes, boundary: str) -> NamedModel:
    for headers, value in _parts(body, boundary.encode("latin-1", "replace")):
        if _field_name(headers) == b"model":
            name = body[value].decode("utf-8", "replace")
            return NamedModel(name, partial(_spliced, body, value))
    raise ModelUnnamed("the form names no model: add the field model, or ?model=NAME")


def _spliced(body: bytes, at: slice, new: str) -> bytes:
    return body[: at.start] + new.encode() + body[at.stop :]


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, slice]]:
    """Yield the headers of each part, and where its value stands in the body (RFC 2046 §5.1.1)."""
    line = b"\r\n--" + boundary
    first = line[2:]
    begin = 0 if body.startswith(first) else body.find(line) + 2
    if not boundary or begin == 1:
        raise BadRequest("the request body is not the form that its content type announces")
    for _ in range(MOST_FIELDS):
        begin += len(first)
        head = body.find(b"\r\n\r\n", begin)
        end = body.find(line, head)
        if body.startswith(b"--", begin) or head < 0 or end < 0:
            return
        yield body[begin:head], slice(head + 4, end)
        begin = end + 2
    raise BadRequest(f"the form has more than {MOST_FIELDS} fields")


def _field_name(headers: bytes) -> bytes:
    """Return the `name` of a part (RFC 7578 §4.2), or nothing."""
    disposition = _DISPOSITION.search(headers)
    for parameter in _PARAMETER.finditer(disposition[1] if disposition else b""):
        if parameter[1].strip().lower() == b"name":
            return parameter[2] if parameter[2] is not None else parameter[3].strip()
    return b""
