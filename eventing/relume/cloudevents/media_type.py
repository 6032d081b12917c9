"""Media types as CloudEvents uses them: whether data is JSON, and what its bytes mean as text."""

import json
import re

_TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+"
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# RFC 2045 §5.1: type/subtype; the parameters are for who asks for one.
MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}[ \t]*(?:;[ -~\t]*)?")
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
