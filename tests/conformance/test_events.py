"""Events in every mode, and the JSON format by its schema: ours, and those that are published."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import STRUCTURED_TYPE, Mode, decode, encode
from tests.cloud_events import events
from tests.vectors import published, vector

from .conftest import Count
from .event_schema import EVENT_SCHEMA

HEADERS = [("content-type", STRUCTURED_TYPE)]
WHOLE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "datacontenttype": "text/plain",
    "dataschema": "urn:schema",
    "subject": "s",
    "time": "2018-04-05T03:56:24Z",
    "data": "text",
}
# For each member: every JSON type, and no characters.
WRONG: tuple[Any, ...] = (None, True, 5, 1.5, [], {}, "")

# id → what the event has beyond the required attributes, and its data.
OURS: dict[str, tuple[dict[str, str], bytes | None]] = {
    "only what is required and no data": ({}, None),
    "every optional attribute": (
        {
            "datacontenttype": "application/json",
            "dataschema": "https://models.example/schemas/prompt#v2",
            "subject": "prompt 7",
            "time": "2026-11-28T09:30:00.25+01:00",
        },
        b'{"prompt": "Why is the sky blue?", "max_tokens": 64}',
    ),
    "an object under a vendor's JSON type": (
        {"datacontenttype": "application/vnd.relume.answer+json"},
        b'{"tokens": [1, 2, 3], "done": true}',
    ),
    "JSON that is one string in another script": (
        {"datacontenttype": "application/json; charset=utf-8"},
        '"Здравствуй, 世界"'.encode(),
    ),
    "JSON that is one number": ({"datacontenttype": "application/json"}, b"-0.5"),
    "text in UTF-8": ({"datacontenttype": "text/plain; charset=utf-8"}, "Grüße ☀".encode()),
    "text in ASCII": ({"datacontenttype": "text/csv; charset=us-ascii"}, b"a,b\r\n1,2"),
    "a document in XML": ({"datacontenttype": "application/xml"}, b"<answer n='1'/>"),
    "bytes that are no text": ({"datacontenttype": "image/png"}, b"\x89PNG\r\n\x1a\n\x00\xff"),
    "extensions that need percent-encoding": (
        {"causationid": '50% of "é"', "traceparent": "00-4bf92f35-00f067aa-01"},
        None,
    ),
}


def validator(schema: dict[str, Any]) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(schema)


def published_schema() -> jsonschema.Draft7Validator:
    return validator(json.loads(vector("cloudevents/cloudevents.json").read_text()))


@pytest.fixture(
    scope="module",
    params=["our own schema", pytest.param("the published schema", marks=published)],
)
def schema(request: pytest.FixtureRequest) -> jsonschema.Draft7Validator:
    return validator(EVENT_SCHEMA) if request.param == "our own schema" else published_schema()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("name", OURS)
def test_an_event_survives_every_mode(name: str, mode: Mode) -> None:
    """HTTP binding §3.1 to §3.3 and JSON format §3.1: what was written is read."""
    more, data = OURS[name]
    event = CloudEvent.create({"id": "e-7", "source": "urn:cam:7", "type": "seen", **more}, data)
    assert decode(*encode(event, mode)).event == event


def conformance_events() -> Iterator[CloudEvent]:
    for file in ("v1.yaml", "v1.0/v1_minimum.yaml"):
        text = vector(f"cloudevents/{file}").read_text()
        # BaseLoader: versions and times stay the strings they are.
        for document in yaml.load_all(text, Loader=yaml.BaseLoader):
            attributes: dict[str, Any] = dict(document["ContextAttributes"])
            extensions = attributes.pop("Extensions", {})
            # The line feed that ends a YAML block is no part of an attribute.
            attributes |= {name: value.strip() for name, value in extensions.items()}
            attributes.setdefault("datacontenttype", "application/json")
            yield CloudEvent.create(attributes, document["Data"].strip().encode())


@published
def test_every_published_event_survives_every_mode(conformance_count: Count) -> None:
    cases = [(event, mode) for event in conformance_events() for mode in Mode]
    survived = [decode(*encode(event, mode)).event == event for event, mode in cases]
    conformance_count("conformance events (each in 3 modes)", sum(survived), len(cases))
    assert all(survived)
    assert len(cases) == 8 * 3


@published
def test_published_text_is_readable_in_json() -> None:
    for event in conformance_events():
        assert "data" in json.loads(encode(event, Mode.STRUCTURED)[1])


@pytest.mark.parametrize("name", [name for name in OURS if "no" not in name.split()])
def test_text_is_readable_in_json(name: str) -> None:
    """JSON format §3.1.1: only what is no text is written as `data_base64`."""
    more, data = OURS[name]
    event = CloudEvent.create({"id": "e-7", "source": "urn:cam:7", "type": "seen", **more}, data)
    members = json.loads(encode(event, Mode.STRUCTURED)[1])
    assert ("data" in members, "data_base64" in members) == (data is not None, False)


@given(event=events())
def test_whatever_we_print_the_schema_takes(
    schema: jsonschema.Draft7Validator, event: CloudEvent
) -> None:
    schema.validate(json.loads(encode(event, Mode.STRUCTURED)[1]))


def variations() -> Iterator[dict[str, Any]]:
    for name in ("data_base64", *WHOLE):
        yield {k: v for k, v in WHOLE.items() if k != name}
        for wrong in WRONG:
            others = {k: v for k, v in WHOLE.items() if (name, k) != ("data_base64", "data")}
            yield {**others, name: wrong}


def extended() -> Iterator[dict[str, Any]]:
    """Members that the published schema says nothing about."""
    for value in (1.5, 2**31, -(2**31) - 1, [], {}):
        yield {**WHOLE, "extension": value}
    for name in ("Upper", "under_score", "da-sh", "é"):
        yield {**WHOLE, name: "x"}
    yield {**WHOLE, "data_base64": "AA=="}
    yield {**WHOLE, "specversion": "2.0"}


def test_whatever_the_schema_refuses_we_refuse(
    schema: jsonschema.Draft7Validator, conformance_count: Count
) -> None:
    wrong = [document for document in variations() if not schema.is_valid(document)]
    taken = [document for document in wrong if not refused(document)]
    conformance_count("what the JSON Schema refuses", len(wrong) - len(taken), len(wrong))
    assert not taken
    assert len(wrong) > 50


def test_our_schema_refuses_what_is_no_extension_and_so_do_we() -> None:
    for document in extended():
        assert not validator(EVENT_SCHEMA).is_valid(document), document
        assert refused(document), document


@published
def test_our_schema_refuses_whatever_the_published_one_refuses() -> None:
    ours, theirs = validator(EVENT_SCHEMA), published_schema()
    assert not [each for each in variations() if ours.is_valid(each) and not theirs.is_valid(each)]


def refused(document: dict[str, Any]) -> bool:
    try:
        decode(HEADERS, json.dumps(document).encode())
    except InvalidEvent:
        return True
    return False


def test_the_whole_document_that_is_varied_is_an_event(
    schema: jsonschema.Draft7Validator,
) -> None:
    schema.validate(WHOLE)
    assert not refused(WHOLE)
