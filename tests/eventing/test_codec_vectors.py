"""The vectors that the CloudEvents project publishes: its HTTP feature file and its events."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from relume.eventing.codec import Mode, decode, encode
from relume.eventing.event import CloudEvent
from tests.vectors import vector


@pytest.fixture(scope="module")
def vectors() -> Path:
    return vector("cloudevents")


def scenarios(feature: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """(HTTP request, expected attributes, expected JSON data) of every example row."""
    for outline in feature.split("Scenario Outline:")[1:]:
        steps, _, examples = outline.partition("Examples:")
        request, expected_data = re.findall(r'"""\n(.*?)"""', steps, re.DOTALL)
        rows = re.findall(r"^\s*\|\s*(\w+)\s*\|\s*(.*?)\s*\|$", steps, re.MULTILINE)
        for value in re.findall(r"\|\s*(\S.*?)\s*\|", examples)[1:]:
            table = {k: v.replace("<contentType>", value) for k, v in rows if k != "key"}
            yield request.replace("<contentType>", value), table, expected_data


def test_the_http_binding_feature_holds(vectors: Path) -> None:
    feature = (vectors / "http-protocol-binding.feature").read_text()
    examples = list(scenarios(feature))
    assert len(examples) == 4
    for request, attributes, data in examples:
        lines = [line.strip() for line in request.splitlines()]
        blank = lines.index("")
        headers = [tuple(line.split(": ", 1)) for line in lines[1:blank]]
        event = decode(
            [(name, value) for name, value in headers], "\n".join(lines[blank:]).encode()
        ).event
        assert event.attributes == attributes
        assert json.loads(event.data or b"") == json.loads(data)


def published_events(vectors: Path) -> Iterator[CloudEvent]:
    for path in sorted(vectors.rglob("*.yaml")):
        # BaseLoader: versions and times stay the strings they are.
        for document in yaml.load_all(path.read_text(), Loader=yaml.BaseLoader):
            attributes: dict[str, Any] = dict(document["ContextAttributes"])
            extensions = attributes.pop("Extensions", {})
            # The line feed that ends a YAML block is no part of an attribute.
            attributes |= {name: value.strip() for name, value in extensions.items()}
            attributes.setdefault("datacontenttype", "application/json")
            yield CloudEvent.create(attributes, document["Data"].strip().encode())


def test_every_published_event_survives_every_mode(vectors: Path) -> None:
    events = list(published_events(vectors))
    assert len(events) == 8
    for event in events:
        for mode in Mode:
            assert decode(*encode(event, mode)).event == event


def test_structured_events_match_the_published_schema(vectors: Path) -> None:
    schema = json.loads((vectors / "cloudevents.json").read_text())
    for event in published_events(vectors):
        jsonschema.validate(json.loads(encode(event, Mode.STRUCTURED)[1]), schema)
