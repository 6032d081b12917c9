"""One event as CloudEvents 1.0.2 defines it: context attributes and the bytes of its data.

Inside Relume every event is a version 1.0 event. Its data is always bytes, exactly as the producer
sent them; nothing here parses the payload. The media type of the data says whether the bytes are
JSON, and how they are read as text.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Self

AttributeValue = str | int | bool
SPECVERSION = "1.0"

_NAME = re.compile(r"[a-z0-9]+")
# spec 1.0.2 "Type System", String: no control characters, no lone surrogates, no noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr((plane << 16) + 0xFFFE) + chr((plane << 16) + 0xFFFF) for plane in range(17))
    + "]"
)
# RFC 3986 appendix A: what a URI reference may be made of; every `%` starts an escape.
_URI_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]++|(?:%[0-9A-Fa-f]{2})++)++", re.ASCII
)
_URI_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1

_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# RFC 2045 §5.1: type/subtype; the parameters are for who asks for one.
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}[ \t]*(?:;[ -~\t]*)?")
_PARAMETER = re.compile(
    rf";[ \t]*(?:({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|{_QUOTED}))?)?[ \t]*", re.DOTALL
)
_JSON = re.compile(r"[^;]*[/+]json[ \t]*(?:;|\Z)", re.IGNORECASE)
_TEXT = re.compile(r"text/|application/xml\b|[^;]*\+xml\b", re.IGNORECASE)
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# IANA names (and `utf8`, which many write) that Python knows by the same name. What is not here is
# stateful, ambiguous, or no character set at all ("rot13" is a codec too).
_CHARSETS = (
    frozenset({"utf-8", "utf8", "us-ascii", "utf-16", "utf-16le", "utf-16be", "utf-32"})
    | {"utf-32le", "utf-32be", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"}
    | {"shift_jis", "euc-jp", "euc-kr"}
    | {f"iso-8859-{part}" for part in range(1, 17) if part != 12}
    | {f"windows-{page}" for page in range(1250, 1259)}
)


class InvalidEvent(ValueError):
    """The bytes or the attributes are not a CloudEvent. Sending them again cannot help."""

    reason = "invalid-event"
    retryable = False


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """Context attributes (`specversion`, `id`, … and extensions) and data, or None for no data.

    The constructor trusts its caller; `create` validates. Attribute values are str, bool, or an
    int that fits 32 bits; the other types of the specification (URI, timestamp, binary) travel as
    their canonical strings.
    """

    attributes: Mapping[str, AttributeValue]
    data: bytes | None = None

    @classmethod
    def create(cls, attributes: Mapping[str, object], data: bytes | None = None) -> Self:
        """A validated event; `specversion` is filled in when it is absent.

        Bytes and datetimes become their canonical strings. Raises InvalidEvent naming the
        attribute (spec 1.0.2, "Context Attributes").
        """
        checked: dict[str, AttributeValue] = {"specversion": SPECVERSION}
        unique: list[str] = []
        for name, value in attributes.items():
            # What was found to be valid before; long values are looked at each time.
            is_repeated = name in _REPEATED and type(value) is str and len(value) <= _SHORT
            if is_repeated and _is_valid(name, value):
                checked[name] = value  # type: ignore[assignment]  # it is a string
            else:
                checked[name] = _checked(name, value)
                unique.append(name)
        for name in ("id", "source", "type"):
            if name not in checked:
                raise InvalidEvent(f"{name}: required attribute is missing")
        for name, check in _CHECKS.items():
            if name in unique:
                check(name, checked[name])
        return cls(checked, data)

    @property
    def id(self) -> str:
        return str(self.attributes["id"])

    @property
    def source(self) -> str:
        return str(self.attributes["source"])

    @property
    def type(self) -> str:
        return str(self.attributes["type"])

    @property
    def subject(self) -> str | None:
        return self._optional("subject")

    @property
    def time(self) -> str | None:
        return self._optional("time")

    @property
    def datacontenttype(self) -> str | None:
        return self._optional("datacontenttype")

    def with_attributes(self, **changes: AttributeValue | None) -> Self:
        """A copy with attributes set, or removed where the value is None. Not validated."""
        merged = {**self.attributes, **changes}
        return type(self)({k: v for k, v in merged.items() if v is not None}, self.data)

    def _optional(self, name: str) -> str | None:
        value = self.attributes.get(name)
        return None if value is None else str(value)


def canonical(value: AttributeValue) -> str:
    """The string form of an attribute value (spec 1.0.2 "Type System"): `true`, `42`, `text`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def rfc3339(at: datetime) -> str:
    """A time with its zone as text: in UTC, with milliseconds, `2026-01-31T12:00:00.000Z`."""
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    second = _second(at.year, at.month, at.day, at.hour, at.minute, at.second)
    return "%s.%03dZ" % (second, at.microsecond // 1000)  # noqa: UP031


# Every event has four such times, and most of them are of this second.
@lru_cache(maxsize=8)
def _second(*parts: int) -> str:
    return "%04d-%02d-%02dT%02d:%02d:%02d" % parts  # noqa: UP031


def _checked(name: str, value: object) -> AttributeValue:
    if not _NAME.fullmatch(name) or name == "data":
        raise InvalidEvent(f"{_shown(name)}: attribute names are lower-case letters and digits")
    if isinstance(value, str):
        # Printable ASCII, which nearly all values are, needs no closer look.
        if not (value.isascii() and value.isprintable()) and (bad := _FORBIDDEN.search(value)):
            raise InvalidEvent(f"{name}: character U+{ord(bad[0]):04X} is not allowed")
        return value
    if isinstance(value, int):
        if not _INT32_MIN <= value <= _INT32_MAX:
            raise InvalidEvent(f"{name}: does not fit a 32-bit integer")
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.isoformat().replace("+00:00", "Z")
    raise InvalidEvent(
        f"{name}: must be a string, a boolean, a 32-bit integer, bytes or a time with its zone"
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _specversion(name: str, value: AttributeValue) -> None:
    if value != SPECVERSION:
        raise InvalidEvent(f"{name}: {_shown(value)} is not supported, send {SPECVERSION}")


def _non_empty(name: str, value: AttributeValue) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name}: must be a non-empty string")


def _uri_reference(name: str, value: AttributeValue) -> None:
    if not isinstance(value, str) or not _URI_REFERENCE.fullmatch(value):
        raise InvalidEvent(
            f"{name}: must be a non-empty URI reference (RFC 3986), got {_shown(value)}"
        )


def _absolute_uri(name: str, value: AttributeValue) -> None:
    _uri_reference(name, value)
    if not _URI_SCHEME.match(str(value)):
        raise InvalidEvent(f"{name}: must be an absolute URI, got {_shown(value)}")


def _timestamp(name: str, value: AttributeValue) -> None:
    found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    try:
        if not found:
            raise ValueError
        year, month, day, hour, minute, second = map(int, found.groups()[:6])
        datetime(year, month, day, hour, minute, second if second != 60 else 59)
    except ValueError:
        raise InvalidEvent(f"{name}: must be an RFC 3339 timestamp, got {_shown(value)}") from None


def _media_type(name: str, value: AttributeValue) -> None:
    if not isinstance(value, str) or not _MEDIA_TYPE.fullmatch(value):
        raise InvalidEvent(f"{name}: must be a media type (RFC 2046), got {_shown(value)}")


_CHECKS = {
    "specversion": _specversion,
    "id": _non_empty,
    "source": _uri_reference,
    "type": _non_empty,
    "subject": _non_empty,
    "dataschema": _absolute_uri,
    "datacontenttype": _media_type,
    "time": _timestamp,
}


# Nearly every event has the same values for these as the one before it.
_REPEATED = frozenset({"specversion", "source", "type", "datacontenttype", "dataschema"})
_SHORT = 256  # characters


@lru_cache(maxsize=1024)
def _is_valid(name: str, value: object) -> bool:
    try:
        _CHECKS[name](name, _checked(name, value))
    except InvalidEvent:
        return False
    return True


def is_json(media_type: str | None) -> bool:
    """Whether data of this type is JSON; none given means JSON (JSON format 1.0.2 §3.1.1)."""
    return media_type is None or _JSON.match(media_type) is not None


def is_text(media_type: str) -> bool:
    """Whether data of this type is text and no JSON, so that it goes into JSON as a string."""
    return _TEXT.match(media_type) is not None and not is_json(media_type)


def charset_of(media_type: str | None) -> str | None:
    """The charset parameter in lower case, None without one. It may be one that nobody knows."""
    if media_type is None or (at := media_type.find(";")) < 0:
        return None
    while found := _PARAMETER.match(media_type, at):
        name, value, at = found[1], found[2], found.end()
        if value and name.lower() == "charset":
            return re.sub(r"\\(.)", r"\1", value.strip('"')).lower()
    return None


def decoded(data: bytes, charset: str) -> str:
    """`data` as text; one byte order mark at its start is no part of the text.

    Raises LookupError for a charset that is not known here, and UnicodeError.
    """
    if charset in ("utf-8", "utf8"):
        return data.decode("utf-8-sig")
    return data.decode(_known(charset))


def encoded(text: str, media_type: str) -> bytes:
    """The bytes of `text` under its media type: in the charset that it names, else UTF-8.

    HTTP binding §2.2: data is what its media type declares. JSON escapes what is not ASCII when
    its charset is not UTF-8, for RFC 8259 §11 lets readers ignore a charset: both read the same.
    Raises LookupError for a charset that is not known here, and UnicodeError.
    """
    charset = charset_of(media_type)
    if charset is None or charset == "utf-8":
        return text.encode()
    if is_json(media_type):
        text = _NOT_ASCII.sub(lambda run: json.dumps(run[0])[1:-1], text)
    return text.encode(_known(charset))


def _known(charset: str) -> str:
    if charset not in _CHARSETS:
        raise LookupError(f"charset {charset!r} is not supported, send utf-8")
    return charset
