"""What one mode encodes it decodes to the same event, for any event; any other input is refused."""

import contextlib
import json
import string

from hypothesis import example, given
from hypothesis import strategies as st

from relume.cloudevents.event import CloudEvent, InvalidEvent, canonical, is_json
from relume.cloudevents.header_value import decode_value, encode_value
from relume.cloudevents.http import Mode, decode, encode, encode_batch
from tests.cloud_events import ODD_JSON, TEXT, events


def make(data: bytes, media_type: str) -> CloudEvent:
    return CloudEvent.create(
        {"id": "1", "source": "/s", "type": "t", "datacontenttype": media_type}, data
    )


def in_json(event: CloudEvent) -> CloudEvent:
    """The event, less the space around JSON data, which the JSON format does not keep."""
    if event.data is None or not is_json(event.datacontenttype):
        return event
    try:
        json.loads(event.data)
    except (ValueError, RecursionError):
        return event
    return CloudEvent(event.attributes, event.data.strip(b" \t\r\n"))


@given(events())
@example(make(b'"\xc3\xbc"', "application/json; charset=us-ascii"))
@example(make(b"{}", "application/json; charset=utf-16"))
@example(make(b" {}\n", "application/json"))
def test_structured_mode_round_trips(event: CloudEvent) -> None:
    assert in_json(decode(*encode(event, Mode.STRUCTURED)).event) == in_json(event)


@given(st.lists(events(), max_size=3))
def test_batched_mode_round_trips(batch: list[CloudEvent]) -> None:
    back = decode(*encode_batch(batch)).events
    assert tuple(map(in_json, back)) == tuple(map(in_json, batch))


@given(events())
def test_binary_mode_round_trips_with_attributes_as_strings(event: CloudEvent) -> None:
    back = decode(*encode(event, Mode.BINARY)).event
    assert back.data == (event.data or None)  # HTTP has no body apart from an empty one
    assert back.attributes == {k: canonical(v) for k, v in event.attributes.items()}


@given(events())
def test_a_second_encoding_changes_nothing(event: CloudEvent) -> None:
    for mode in Mode:
        once = encode(event, mode)
        assert encode(decode(*once).event, mode) == once


@given(TEXT)
def test_any_text_survives_a_header(text: str) -> None:
    header = encode_value(text)
    assert all("!" <= c <= "~" for c in header)
    assert decode_value("ce-x", header) == text


WIRE = st.text(st.characters(max_codepoint=255), max_size=40)
NAMES = st.text(string.ascii_lowercase, max_size=5) | st.sampled_from(
    (
        *("specversion", "id", "source", "type", "time", "subject", "dataschema", "schemaurl"),
        *("data", "datacontenttype", "datacontentencoding", "x_y", "", "É"),
    )
)
KINDS = st.sampled_from(
    (
        *("application/cloudevents+json", "Application/CloudEvents-Batch+json", "text/plain"),
        *("application/cloudevents", "application/json", "application/cloudevents+xml"),
    )
)
PARAMETERS = st.sampled_from(
    ("", ";", "; charset=utf-16", '; charset="', "; charset=rot13", ";;;charset=é")
)
CONTENT_TYPES = st.builds("{}{}".format, KINDS | WIRE, PARAMETERS)
HEADERS = st.lists(
    st.tuples(NAMES.map("Ce-{}".format), WIRE | st.sampled_from(["0.3", "1.0", "1", "/a", '"a"']))
    | st.tuples(st.just("Content-Type"), CONTENT_TYPES),
    max_size=8,
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
WORDS = st.sampled_from(["1.0", "0.3", "/a", "base64", "QQ==", "text/plain; charset=big5"])
MEMBERS = st.dictionaries(
    NAMES | st.just("data_base64"),
    st.recursive(
        LEAVES | WORDS,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
)
WHOLE = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
BODIES = (
    st.binary(max_size=60)
    | ODD_JSON
    | MEMBERS.map(lambda members: json.dumps({**WHOLE, **members}).encode())
    | st.lists(MEMBERS, max_size=2).map(
        lambda batch: json.dumps([{**WHOLE, **members} for members in batch]).encode()
    )
)


@given(HEADERS, BODIES)
def test_any_message_is_an_event_or_refused(headers: list[tuple[str, str]], body: bytes) -> None:
    with contextlib.suppress(InvalidEvent):
        for event in decode(headers, body).events:
            for mode in Mode:
                decode(*encode(event, mode))


@given(
    st.dictionaries(NAMES, LEAVES | st.binary(max_size=5) | st.datetimes() | st.lists(LEAVES)),
    st.none() | st.binary(max_size=5),
)
def test_any_attributes_are_an_event_or_refused(
    attributes: dict[str, object], data: bytes | None
) -> None:
    with contextlib.suppress(InvalidEvent):
        event = CloudEvent.create({**WHOLE, **attributes}, data)
        assert decode(*encode(event, Mode.STRUCTURED)).event.attributes == event.attributes
