"""HTTP requests to a Broker, most of them wrong: whatever a server lets through, and more."""

import json
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from relume.cloudevents.http import BATCH_TYPE, STRUCTURED_TYPE, Mode, encode, encode_batch
from tests.cloud_events import MEDIA_TYPES, ODD_JSON, events

Headers = tuple[tuple[bytes, bytes], ...]

PATH = "/default/b"
VOLLEY = 10


@dataclass(frozen=True, slots=True)
class Request:
    """A request as an ASGI server hands it on; the client may go away before its end."""

    headers: Headers
    chunks: tuple[bytes, ...] = (b"",)
    method: str = "POST"
    path: str = PATH
    goes_away: bool = False


_PIECES = (
    *(b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"%", b"%C0", b"\x00", b"\xff", b"\n"),
    *(b"\\ud800", b"\\u0064", b"null", b"true", b"-1", b"1e999", b"NaN", b'"data":1', b"9" * 30),
    *(b"\xef\xbb\xbf", b'"id":5', b"data_base64", b"specversion", b"0.3", b"\xed\xa0\x80"),
)
_METHODS = (*["POST"] * 30, "GET", "OPTIONS", "é")
_PATHS = (*[PATH] * 30, "/", "//", "/default/other", "/�/é/\x00", "*")


def _cut(data: bytes, random: Random) -> bytes:
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        at = random.randint(0, len(data))
        data = data[:at] + random.choice(_PIECES) + data[at + random.choice((0, 1, 4)) :]
    return data


def _changed(headers: Headers, body: bytes, random: Random) -> Request:
    """The message with some bytes and headers cut, doubled, or replaced."""
    kept = [header for header in headers if random.random() > 0.02]
    if kept and random.random() < 0.3:
        name, value = random.choice(kept)
        kept.remove((name, value))
        kept.append((name, _cut(value, random)))
    if kept and random.random() < 0.05:
        kept.append(random.choice(kept))
    body = _cut(body, random)
    at = random.randint(0, len(body))
    return Request(
        tuple(kept),
        chunks=random.choice(((body,), (body[:at], body[at:]))),
        method=random.choice(_METHODS),
        path=random.choice(_PATHS),
        goes_away=random.random() < 0.02,
    )


_NAMES = st.sampled_from(
    (
        *("id", "source", "type", "specversion", "time", "subject", "dataschema", "data", "a_b"),
        *("datacontenttype", "datacontentencoding", "schemaurl", "traceparent", "tracestate"),
        *("knativebrokerttl", "knativearrivaltime", "knativeerrordest", "partitionkey", "x", ""),
    )
)
_WORDS = st.sampled_from(
    (
        *("1.0", "0.3", "/a", "", "255", "0", "-1", "9" * 30, "9" * 5000, "true", "%", "%zz"),
        *('"', '"\\', '"a\\"', "%C0%A0", "%00", "\ud800", "é", "2026-01-01T00:00:00Z", "a b"),
        *("00-" + "0" * 32 + "-" + "0" * 16 + "-01", "1\t2", "\x00", "\x7f", "data:,x", "٣"),
    )
)
_VALUES = (_WORDS | st.text(max_size=12)).map(lambda text: text.encode("utf-8", "surrogatepass"))
_VALUES_OF_ANY_BYTES = _VALUES | st.binary(max_size=12)
_TYPES = (
    st.sampled_from(
        (
            *(
                STRUCTURED_TYPE,
                BATCH_TYPE,
                "application/cloudevents",
                "application/cloudevents+avro",
            ),
            *("APPLICATION/CLOUDEVENTS+JSON; charset=UTF-16", f"{BATCH_TYPE};charset=latin1"),
            *(f'{STRUCTURED_TYPE}; x="', f"{STRUCTURED_TYPE};charset=rot13", ";", "text", ""),
            *(f"{STRUCTURED_TYPE}; charset=utf-32", f"{STRUCTURED_TYPE}; charset=shift_jis"),
        )
    )
    | MEDIA_TYPES
).map(str.encode)
_OTHERS = st.sampled_from(
    (
        *((b"content-length", b"9" * 5000), (b"content-length", b"-1"), (b"content-length", b"x")),
        *((b"traceparent", b"\xff"), (b"tracestate", b"\x00"), (b"knative-x", b"\xe9")),
        *((b"ce-knativebrokerttl", b"9" * 30), (b"ce-knativebrokerttl", b"-1")),
        *((b"x-b3-", b"1"), (b"x-request-id", b"a\r\nb: c"), (b"retry-after", b"")),
        *(
            (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
            (b"tracestate", b"a=b"),
        ),
    )
)
_HEADER = (
    st.tuples(_NAMES.map(lambda name: b"ce-" + name.encode()), _VALUES_OF_ANY_BYTES)
    | st.tuples(st.just(b"content-type"), _TYPES | _VALUES_OF_ANY_BYTES)
    | _OTHERS
)
_SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | _WORDS
_MEMBERS = st.dictionaries(
    _NAMES | st.sampled_from(["data_base64", "Data", "\ud800"]),
    st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=4,
)
_WHOLE = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}


def _encoded(message: tuple[list[tuple[str, str]], bytes]) -> tuple[Headers, bytes]:
    headers, body = message
    return tuple((name.encode(), value.encode("latin-1")) for name, value in headers), body


_VALID = st.one_of(
    st.builds(encode, events(), st.sampled_from(Mode)),
    st.builds(encode_batch, st.lists(events(), max_size=3)),
).map(_encoded)
_NEARLY_JSON = st.tuples(
    st.sampled_from([STRUCTURED_TYPE, BATCH_TYPE]).map(
        lambda kind: ((b"content-type", kind.encode()),)
    ),
    st.one_of(
        _MEMBERS.map(lambda members: json.dumps({**_WHOLE, **members})),
        st.lists(_MEMBERS, max_size=3).map(
            lambda batch: json.dumps([{**_WHOLE, **members} for members in batch])
        ),
    ).map(str.encode),
)
_ANYTHING = st.tuples(st.lists(_HEADER, max_size=6).map(tuple), st.binary(max_size=60) | ODD_JSON)


@st.composite
def volleys(draw: st.DrawFn) -> tuple[Request, ...]:
    """`VOLLEY` requests made of one message, which is valid, nearly valid, or anything at all."""
    headers, body = draw(_VALID | _NEARLY_JSON | _ANYTHING)
    headers += tuple(draw(st.lists(_HEADER, max_size=2)))
    random = Random(draw(st.integers(0, 2**32)))
    return tuple(_changed(headers, body, random) for _ in range(VOLLEY))
