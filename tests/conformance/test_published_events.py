"""The published conformance events, in every mode, and the published JSON Schema of the format."""

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
from tests.vectors import vector

from .conftest import Count

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


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    document = json.loads(vector("cloudevents/cloudevents.json").read_text())
    return jsonschema.Draft7Validator(document)


def published() -> Iterator[CloudEvent]:
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


def test_every_published_event_survives_every_mode(conformance_count: Count) -> None:
    cases = [(event, mode) for event in published() for mode in Mode]
    survived = [decode(*encode(event, mode)).event == event for event, mode in cases]
    conformance_count("conformance events (each in 3 modes)", sum(survived), len(cases))
    assert all(survived)
    assert len(cases) == 8 * 3


def test_published_text_is_readable_in_json() -> None:
    for event in published():
        assert "data" in json.loads(encode(event, Mode.STRUCTURED)[1])


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


def test_whatever_the_schema_refuses_we_refuse(
    schema: jsonschema.Draft7Validator, conformance_count: Count
) -> None:
    wrong = [document for document in variations() if not schema.is_valid(document)]
    taken = [document for document in wrong if not refused(document)]
    conformance_count("what the JSON Schema refuses", len(wrong) - len(taken), len(wrong))
    assert not taken
    assert len(wrong) > 50


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
