"""What one mode encodes it decodes to the same event, for any event; and agreement with the SDK."""

import contextlib
import string

import orjson
import pytest
from cloudevents.http import from_http
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.codec import Mode, decode, decode_value, encode, encode_batch, encode_value
from relume.eventing.event import CloudEvent, InvalidEvent, canonical

ATTRIBUTE_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn")), max_size=40)
NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20).filter(
    lambda name: (
        name not in {"data", "id", "source", "type", "time", "subject", "specversion", "dataschema"}
        and name not in {"datacontenttype", "datacontentencoding", "schemaurl"}
    )
)
VALUES = st.one_of(ATTRIBUTE_TEXT, st.booleans(), st.integers(-(2**31), 2**31 - 1))
JSON_DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
).map(orjson.dumps)
DATA = st.one_of(
    st.none().map(lambda _: (None, None)),
    st.tuples(st.binary(min_size=1, max_size=60), st.sampled_from(["image/png", "text/plain"])),
    st.tuples(st.text(min_size=1).map(str.encode), st.just("text/plain; charset=utf-8")),
    st.tuples(JSON_DATA, st.just("application/json")),
)


@st.composite
def events(draw: st.DrawFn) -> CloudEvent:
    data, media_type = draw(DATA)
    attributes: dict[str, object] = {
        **draw(st.dictionaries(NAMES, VALUES, max_size=4)),
        "id": draw(ATTRIBUTE_TEXT.filter(bool)),
        "source": "/" + draw(st.text(string.ascii_letters + "/?#&=%20"[:5], max_size=10)),
        "type": draw(ATTRIBUTE_TEXT.filter(bool)),
    }
    if media_type is not None:
        attributes["datacontenttype"] = media_type
    return CloudEvent.create(attributes, data)


@given(events())
def test_structured_mode_round_trips(event: CloudEvent) -> None:
    assert decode(*encode(event, Mode.STRUCTURED)).event == event


@given(st.lists(events(), max_size=3))
def test_batched_mode_round_trips(batch: list[CloudEvent]) -> None:
    assert decode(*encode_batch(batch)).events == tuple(batch)


@given(events())
def test_binary_mode_round_trips_with_attributes_as_strings(event: CloudEvent) -> None:
    back = decode(*encode(event, Mode.BINARY)).event
    assert back.data == event.data
    assert back.attributes == {k: canonical(v) for k, v in event.attributes.items()}


@given(ATTRIBUTE_TEXT)
def test_any_text_survives_a_header(text: str) -> None:
    header = encode_value(text)
    assert all("!" <= c <= "~" for c in header)
    assert decode_value("ce-x", header) == text


@given(st.binary(max_size=200), st.sampled_from(["application/cloudevents+json", "text/plain"]))
def test_any_bytes_are_an_event_or_refused(body: bytes, media_type: str) -> None:
    with contextlib.suppress(InvalidEvent):
        decode([("content-type", media_type), ("ce-id", "1")], body)


@given(events())
def test_the_sdk_reads_what_we_write(event: CloudEvent) -> None:
    for mode in (Mode.BINARY, Mode.STRUCTURED):
        headers, body = encode(event, mode)
        theirs = from_http(dict(headers), body, data_unmarshaller=lambda data: data)
        assert theirs["source"] == event.source
        assert theirs["specversion"] == "1.0"
        if mode is Mode.STRUCTURED:
            assert theirs["id"] == event.id


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
def test_we_read_what_the_sdk_writes(mode: Mode) -> None:
    from cloudevents.conversion import to_binary, to_structured
    from cloudevents.http import CloudEvent as SdkEvent

    theirs = SdkEvent({"source": "/s", "type": "t", "subject": "x"}, {"prompt": "Grüße"})
    headers, body = (to_binary if mode is Mode.BINARY else to_structured)(theirs)
    event = decode(list(headers.items()), body).event
    assert event.id == theirs["id"]
    assert event.subject == "x"
    assert orjson.loads(event.data or b"") == {"prompt": "Grüße"}
