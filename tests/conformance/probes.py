"""Messages that readers of CloudEvents over HTTP disagree on, and the clause that decides each.

`HTTP` is the HTTP protocol binding, `JSON` the JSON event format, `spec` the core specification,
all 1.0.2; `0.3` is version 0.3 of them.
"""

from dataclasses import dataclass

Headers = tuple[tuple[str, str], ...]

BINARY: Headers = (
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
    ("ce-time", "2026-01-01T00:00:00Z"),
)
STRUCTURED: Headers = (("content-type", "application/cloudevents+json"),)
_MEMBERS = (
    '{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00Z",%s}'
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A message, what is asked of its reader, and the clause (with what it demands) that decides.

    `write` names the mode in which the event is written again before it is compared.
    """

    asks: str
    headers: Headers
    body: bytes
    clause: str
    write: str | None = None


def _binary(asks: str, clause: str, *headers: tuple[str, str], body: bytes = b"") -> Probe:
    return Probe(asks, (*BINARY, *headers), body, clause)


def _json(asks: str, clause: str, members: str, *, write: str | None = None) -> Probe:
    return Probe(asks, STRUCTURED, (_MEMBERS % members).encode(), clause, write)


def _less(name: str) -> Headers:
    return tuple(header for header in BINARY if header[0] != name)


JSON_TYPE = ("content-type", "application/json")
TEXT_TYPE = ("content-type", "text/plain")

PROBES = (
    _binary("a plain event, binary", "HTTP §3.1", JSON_TYPE, body=b'{"a":1}'),
    _json(
        "a plain event, structured",
        "HTTP §3.2",
        '"datacontenttype":"application/json","data":{"a":1}',
    ),
    Probe(
        "a `ce-` header beside the structured content type",
        (*STRUCTURED, ("ce-id", "other")),
        (_MEMBERS % '"subject":"x"').encode(),
        "HTTP §3: the content type decides the mode; §3.2.3: headers may repeat attributes",
    ),
    Probe(
        "a batch of two",
        (("content-type", "application/cloudevents-batch+json"),),
        b"[%b,%b]" % ((_MEMBERS % '"subject":"x"').encode(), (_MEMBERS % '"subject":"y"').encode()),
        "HTTP §3.3, JSON §4: the content type says that it is a batch",
    ),
    Probe(
        "plain JSON that happens to look like an event",
        (JSON_TYPE,),
        (_MEMBERS % '"subject":"x"').encode(),
        "HTTP §3: structured only when the content type says application/cloudevents",
    ),
    Probe(
        "an event format that is not JSON",
        (("content-type", "application/cloudevents+avro"),),
        (_MEMBERS % '"subject":"x"').encode(),
        "HTTP §3.2.1: the content type names the event format",
    ),
    Probe(
        "no `ce-specversion`",
        _less("ce-specversion"),
        b"",
        "spec, specversion: required",
    ),
    Probe("no `ce-id`", _less("ce-id"), b"", "spec, id: required"),
    Probe(
        "no `ce-time`",
        _less("ce-time"),
        b"",
        "spec, time: optional; what is not set is not made up",
    ),
    Probe(
        "specversion 2.0",
        (("ce-specversion", "2.0"), *_less("ce-specversion")),
        b"",
        "spec, specversion: 1.0 refers to this version, 2.0 to one that nobody has written",
    ),
    Probe(
        "an empty id",
        (("ce-id", ""), *_less("ce-id")),
        b"",
        "spec, id: a non-empty string",
    ),
    Probe(
        "a source with a space",
        (("ce-source", "not%20a%20uri"), *_less("ce-source")),
        b"",
        "spec, source: a URI reference (RFC 3986 has no space)",
    ),
    Probe(
        "a time without a zone",
        (("ce-time", "2026-01-01T00:00:00"), *_less("ce-time")),
        b"",
        "spec, time: RFC 3339, which demands an offset",
    ),
    Probe(
        "a time that is no time",
        (("ce-time", "yesterday"), *_less("ce-time")),
        b"",
        "spec, time: RFC 3339",
    ),
    Probe(
        "a time below the microsecond",
        (("ce-time", "2026-01-01T00:00:00.123456789Z"), *_less("ce-time")),
        b"",
        "spec, Type System: timestamps convert to and from their string",
    ),
    _binary(
        "percent-encoded text", "HTTP §3.1.3.2: percent-decode once", ("ce-x", "%E2%82%AC%2525")
    ),
    _binary("a quoted string", "HTTP §3.1.3.2: unquote before percent-decoding", ("ce-x", '"a b"')),
    _binary(
        "percent-encoded bytes that are not UTF-8",
        "HTTP §3.1.3.2: must be rejected",
        ("ce-x", "%C0%A0"),
    ),
    _binary(
        "a header value that is not ASCII",
        "HTTP §3.1.3.2: what is outside U+0021 to U+007E must be percent-encoded",
        ("ce-x", "\xe9"),
    ),
    _binary(
        "a control character, percent-encoded",
        "spec, Type System: no control characters in a string",
        ("ce-x", "a%0Ab"),
    ),
    _binary(
        "an underscore in a name", "spec, Naming: lower-case letters and digits", ("ce-a_b", "x")
    ),
    _binary("an attribute called data", "spec, Naming: data is reserved", ("ce-data", "x")),
    _binary(
        "`ce-datacontenttype` beside Content-Type",
        "HTTP §3.1.1: must not be present",
        TEXT_TYPE,
        ("ce-datacontenttype", "a/b"),
        body=b"x",
    ),
    _binary(
        "JSON data that is a string", "HTTP §3.1.2: the bytes are the data", JSON_TYPE, body=b'"a"'
    ),
    _binary(
        "data that is not the JSON that it says",
        "HTTP §3.1.2: the body is the data, whatever it holds",
        JSON_TYPE,
        body=b"{oops",
    ),
    _binary("text that looks like JSON", "HTTP §3.1.2: the type says text", TEXT_TYPE, body=b"[1]"),
    _binary(
        "text in the character set that it names",
        "HTTP §2.2: data is encoded as datacontenttype declares",
        ("content-type", "text/plain; charset=iso-8859-1"),
        body=b"\xfc",
    ),
    _json("an attribute that is null", "JSON §2.2: null is unset", '"subject":null'),
    _json("an extension that is true", "JSON §2.2: a boolean", '"x":true'),
    _json(
        "an extension that is true, then in a header",
        "spec, Type System: the string of a boolean is true or false",
        '"x":true',
        write="binary",
    ),
    _json(
        "text that needs percent-encoding, then in a header",
        "HTTP §3.1.3.2: space, quote, percent and all that is not ASCII must be encoded",
        '"x":"€ 5%"',
        write="binary",
    ),
    _json("an integer of 33 bits", "spec, Type System: integers have 32 bits", '"x":4294967296'),
    _json("a number with a fraction", "JSON §2.2: only the integer component", '"x":1.5'),
    _json("an extension that is an object", "spec, Type System", '"x":{"a":1}'),
    _json("a name in upper case", "spec, Naming: lower-case letters", '"X":"a"'),
    _json(
        "data that is null",
        "JSON §3.1.1: an explicit null, not the absence of data",
        '"datacontenttype":"application/json","data":null',
    ),
    _json(
        "data without a type, then in binary mode",
        "JSON §3.1.2: datacontenttype is to be set when the format changes",
        '"data":[1]',
        write="binary",
    ),
    _json(
        "binary data",
        "JSON §3.1.2",
        '"datacontenttype":"image/png","data_base64":"/w=="',
    ),
    _json(
        "binary data beside data",
        "JSON §3.1.1: mutually exclusive",
        '"datacontenttype":"image/png","data":"x","data_base64":"/w=="',
    ),
    _json(
        "base64 that is none", "JSON §2.2: RFC 4648", '"datacontenttype":"a/b","data_base64":"%%"'
    ),
    _json(
        "a JSON string as JSON data",
        "JSON §3.1.2: a JSON string, not to be parsed again",
        '"datacontenttype":"application/json","data":"[1]"',
    ),
    _json(
        "a string that looks like JSON as text",
        "JSON §3.1.2: an encoded content string",
        '"datacontenttype":"text/plain","data":"[1]"',
    ),
    _json(
        "a large number as JSON data, then in binary mode",
        "RFC 8259 §6: any number is JSON, Infinity is not",
        '"datacontenttype":"application/json","data":1e400',
        write="binary",
    ),
    _json(
        "text data in the character set that it names, then in binary mode",
        "HTTP §2.2: the bytes are what datacontenttype declares",
        '"datacontenttype":"text/plain; charset=iso-8859-1","data":"ü"',
        write="binary",
    ),
    _json(
        "a member that stands twice",
        "RFC 8259 §4: names should be unique, readers differ where they are not",
        '"x":"a","x":"b"',
    ),
    Probe("a body that is no JSON", STRUCTURED, b"{oops", "JSON §3: a JSON object"),
    Probe("a body that is an array", STRUCTURED, b"[]", "JSON §3: a JSON object"),
    Probe(
        "a byte order mark",
        STRUCTURED,
        b"\xef\xbb\xbf" + (_MEMBERS % '"subject":"x"').encode(),
        "RFC 8259 §8.1: a reader may ignore one",
    ),
    Probe(
        "a body in UTF-16 that says so",
        (("content-type", "application/cloudevents+json; charset=utf-16"),),
        (_MEMBERS % '"subject":"ü"').encode("utf-16"),
        "HTTP §3.2.1: a charset parameter of the content type",
    ),
    Probe(
        "version 0.3 with base64",
        STRUCTURED,
        b'{"specversion":"0.3","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00Z",'
        b'"datacontenttype":"image/png","datacontentencoding":"base64","data":"/w=="}',
        "0.3, datacontentencoding: data is the decoded bytes (ours reads 0.3 as 1.0)",
    ),
)
