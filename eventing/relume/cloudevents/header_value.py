"""An attribute's string as the value of an HTTP header, and back (HTTP binding 1.0.2, §3.1.3.2)."""

import re

from relume.cloudevents.event import InvalidEvent
from relume.cloudevents.headers import Header

# What must be percent-encoded is space, `"`, `%` and all outside U+21..U+7E.
_UNSAFE = re.compile(r"[^!#$&-~]")
_PLAIN = re.compile(r"[!#$&-~]+(?: +[!#$&-~]+)*+")
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNQUOTED_OR_QUOTED = re.compile(r'[^"]++|"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
_NOT_IN_A_HEADER = re.compile(r"[^\t -~]")
_NEVER_IN_A_HEADER = re.compile(r"[^\t -~\x80-\xff]")


def encode_value(value: str) -> str:
    """An attribute's string as a header value (§3.1.3.2): percent-encoded UTF-8, upper-case hex."""
    return _UNSAFE.sub(lambda c: "".join(f"%{byte:02X}" for byte in c[0].encode()), value)


def encode_values(headers: list[Header]) -> list[Header]:
    """The headers, with values as `encode_value` gives them; mostly none needs encoding."""
    if _UNSAFE.search("".join([value for _, value in headers])) is None:
        return headers
    return [(name, encode_value(value)) for name, value in headers]


def decode_values(headers: list[Header], *, lenient: bool = False) -> list[Header]:
    """The headers, with values as `decode_value` gives them; mostly none needs decoding."""
    if _UNSAFE.search("".join([value for _, value in headers])) is None:
        return headers
    return [(name, decode_value(name, value, lenient=lenient)) for name, value in headers]


def decode_value(name: str, value: str, *, lenient: bool = False) -> str:
    """A header value as an attribute's string: unquote, then one round of percent-decoding.

    Raises InvalidEvent for what a sender had to encode and did not. `lenient` takes that as it is
    meant, as Knative does for the SDKs that do not encode: UTF-8 is read as UTF-8, other bytes as
    Latin-1, and a percent sign or a quote that belongs to nothing is itself.
    """
    value = value.strip(" \t")
    if _PLAIN.fullmatch(value):
        return value
    if bad := (_NEVER_IN_A_HEADER if lenient else _NOT_IN_A_HEADER).search(value):
        raise InvalidEvent(f"{name}: character U+{ord(bad[0]):04X} must be percent-encoded")
    if lenient:
        value = _as_meant(value)
    if '"' in value:
        value = _unquoted(name, value, lenient=lenient)
    if "%" not in value:
        return value
    if lenient:
        return _ESCAPES.sub(_character_or_itself, value)
    if _STRAY_PERCENT.search(value):
        raise InvalidEvent(f"{name}: '%' must be percent-encoded as %25")
    try:
        return _ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), value)
    except UnicodeDecodeError:
        raise InvalidEvent(f"{name}: percent-encoded bytes are not UTF-8") from None


def _as_meant(value: str) -> str:
    """The bytes of a header, which were read as Latin-1, as the text that they are in UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _character_or_itself(run: re.Match[str]) -> str:
    """What the escapes stand for; themselves where that is no UTF-8."""
    try:
        return bytes.fromhex(run[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return run[0]


def _unquoted(name: str, value: str, *, lenient: bool) -> str:
    text: list[str] = []
    at = 0
    while part := _UNQUOTED_OR_QUOTED.match(value, at):
        text.append(part[0] if part[1] is None else re.sub(r"\\(.)", r"\1", part[1]))
        at = part.end()
    if at < len(value):
        if lenient:
            return value
        raise InvalidEvent(f"{name}: unbalanced double quote")
    return "".join(text)
