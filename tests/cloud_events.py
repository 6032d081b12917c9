"""Generated CloudEvents: any attributes and any data that the specification allows."""

import string

import orjson
from hypothesis import strategies as st

from relume.cloudevents.event import CloudEvent

_TAKEN = frozenset(
    {"id", "source", "type", "specversion", "subject", "time", "dataschema", "datacontenttype"}
    | {"data", "datacontentencoding", "schemaurl"}
)
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=40)
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=25).filter(
    lambda name: name not in _TAKEN
)
VALUES = st.one_of(TEXT, st.booleans(), st.integers(-(2**31), 2**31 - 1))
TIMES = st.datetimes(timezones=st.timezones()).map(
    lambda time: time.replace(tzinfo=None).isoformat() + "Z"
)
URIS = st.text(string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=", max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
).map(orjson.dumps)
# JSON that was not printed by orjson: its numbers, escapes and depth are of any kind.
ODD_JSON = st.sampled_from(
    (
        *(b"1e400", b"-0", b"1" * 5000, b'"\\ud800"', b'{"a":1,"a":2}', b'"\\u0000"', b'"', b""),
        *(b"[" * 1100 + b"]" * 1100, b"[1.50,\t-1E+2 ]", b"not json", b"NaN", b"1],[2"),
        *(b'[[[{"a":[[[["]"],{}]]],"b":[{}]}]]]', b'{"a":{"b":{"c":{"d":{"}":"\\\\"}}}}}'),
    )
)
CHARSETS = st.sampled_from(
    (
        *("utf-8", "UTF-8", '"utf-8"', "utf8", "us-ascii", "iso-8859-1", "utf-16", "utf-16be"),
        *("windows-1252", "shift_jis", "gb18030", "klingon", "rot13"),
    )
)
MEDIA_TYPES = st.sampled_from(
    (
        *(
            "text/plain",
            "text/csv; header=present",
            "application/xml",
            "image/svg+xml",
            "Text/JSON",
        ),
        *("application/json", "application/vnd.x+json", "image/png", "application/octet-stream"),
    )
)


@st.composite
def data_and_type(draw: st.DrawFn) -> tuple[bytes | None, str | None]:
    """Bytes that may be what the media type beside them says, and may not be."""
    data = draw(st.none() | JSON | ODD_JSON | st.binary(max_size=60) | TEXT.map(str.encode))
    media_type = draw(st.none() | MEDIA_TYPES)
    if media_type is not None and draw(st.booleans()):
        media_type += "; charset=" + draw(CHARSETS)
    return data, media_type


@st.composite
def events(draw: st.DrawFn) -> CloudEvent:
    """A valid event; attributes of every type, data of any kind or none."""
    data, media_type = draw(data_and_type())
    attributes: dict[str, object] = {
        **draw(st.dictionaries(NAMES, VALUES, max_size=4)),
        **draw(st.fixed_dictionaries({}, optional={"subject": TEXT.filter(bool), "time": TIMES})),
        **draw(st.fixed_dictionaries({}, optional={"dataschema": URIS.map("urn:x{}".format)})),
        "id": draw(TEXT.filter(bool)),
        "source": "/" + draw(URIS) + draw(st.sampled_from(["", "%20", "%C3%BC"])),
        "type": draw(TEXT.filter(bool)),
    }
    if media_type is not None:
        attributes["datacontenttype"] = media_type
    return CloudEvent.create(attributes, data)
