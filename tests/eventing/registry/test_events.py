"""The documents that tell of our events: current, well-formed, and true to each other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import decode
from relume.eventing.delivery.decision import DeadLetter
from relume.eventing.registry.documents import asyncapi, event_types, files, schema_file
from relume.eventing.registry.events import (
    ANSWERS,
    DEAD_LETTER_REASONS,
    KINDS,
    REQUESTS,
    SCHEMA_NAMES,
    EventKind,
)
from tests.custom_kinds import EVENT_TYPE, ORIGINS

MANIFESTS = Path(__file__).parents[3] / "eventing" / "manifests"
DOCUMENT: dict[str, Any] = json.loads(json.dumps(asyncapi()))


def valid(name: str, value: object) -> bool:
    """Whether `value` is valid by the schema file `name`, its neighbours beside it."""
    resources = [
        (f"{each}.json", Resource.from_contents(schema_file(each))) for each in SCHEMA_NAMES
    ]
    registry: Registry[Any] = Registry().with_resources(resources)
    return bool(Draft202012Validator({"$ref": f"{name}.json"}, registry=registry).is_valid(value))


def of_document(schema: object) -> Draft202012Validator:
    """A validator of one schema in the AsyncAPI document, with the document's components."""
    whole = {"allOf": [schema], "components": DOCUMENT["components"]}
    return Draft202012Validator(whole, format_checker=FormatChecker())


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            yield ref
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def at(pointer: str) -> Any:
    found: Any = DOCUMENT
    for part in pointer.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_checked_in_files_are_current() -> None:
    there = {
        str(path.relative_to(MANIFESTS)): path.read_text(encoding="utf-8")
        for path in [*MANIFESTS.glob("*.yaml"), *MANIFESTS.glob("schemas/*")]
        if path.name in ("eventtypes.yaml", "asyncapi.yaml") or path.parent.name == "schemas"
    }
    assert there == files(), "run `make manifests`"


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_each_schema_is_one_of_draft_2020_12(name: str) -> None:
    Draft202012Validator.check_schema(schema_file(name))


def test_the_files_as_yaml_are_the_documents() -> None:
    assert yaml.safe_load(files()["asyncapi.yaml"]) == DOCUMENT
    assert list(yaml.safe_load_all(files()["eventtypes.yaml"])) == event_types()


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_event_type_is_what_its_crd_takes(origin: str) -> None:
    for document in event_types():
        assert EVENT_TYPE.problems(document, origin) == []
        names = {each["name"] for each in document["spec"]["attributes"]}  # type: ignore[index]
        # knative/eventing pkg/apis/eventing/v1beta3/eventtype_validation.go
        assert {"type", "source", "specversion", "id"} <= names


def test_every_reference_of_the_document_leads_somewhere() -> None:
    every = list(references(DOCUMENT))
    assert len(every) > 50
    for pointer in every:
        assert isinstance(at(pointer), dict), pointer


def test_an_operation_names_only_messages_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for part in [operation, operation.get("reply", operation)]:
            channel = part["channel"]["$ref"]
            assert all(each["$ref"].startswith(f"{channel}/messages/") for each in part["messages"])


def test_every_kind_is_a_message_in_both_modes_and_every_message_is_used() -> None:
    messages = DOCUMENT["components"]["messages"]
    used = {ref.rpartition("/")[2] for ref in references(DOCUMENT["channels"])}
    expected = {f"{kind.key}{mode}" for kind in KINDS for mode in ("", "Structured")}
    assert set(messages) == used == expected | {"batch"}


def test_every_schema_of_the_document_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_the_example_of_a_kind_is_an_event_and_fits_its_schemas(kind: EventKind) -> None:
    message = DOCUMENT["components"]["messages"][kind.key]
    [example] = message["examples"]
    of_document(message["headers"]).validate(example["headers"])
    of_document(message["payload"]).validate(example["payload"])
    headers = [*example["headers"].items(), ("content-type", message["contentType"])]
    body = example["payload"]
    data = body if isinstance(body, str) else json.dumps(body)
    event = decode(headers, data.encode()).event
    structured = {**event.attributes, "data": body}
    name = DOCUMENT["components"]["messages"][f"{kind.key}Structured"]["payload"]
    of_document(name).validate(structured)
    for required in (each.name for each in kind.attributes if each.required):
        assert not of_document(name).is_valid({**structured, required: None})


def test_a_request_fits_the_schema_of_one_route() -> None:
    for kind in REQUESTS:
        assert kind.schema is not None
        fits = [each.key for each in REQUESTS if valid(str(each.schema), kind.example)]
        assert fits == [kind.key]


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("chat-request", {"messages": []}),
        ("chat-request", {"messages": "Hello"}),
        ("chat-request", {"messages": [{"role": "user"}], "model": 1}),
        ("completion-request", {"prompt": ""}),
        ("embedding-request", {"input": []}),
        ("v1-request", {"instances": "text"}),
        ("v2-request", {"inputs": [{"name": "text"}]}),
        ("text-request", ""),
        ("response", []),
        ("response", {"choices": []}),
        ("response", {"choices": [{"index": 0}]}),
        ("response", {"data": [{"embedding": "AAAA"}, {"embedding": None}]}),
        ("response", {"outputs": [{}]}),
        ("response", {"predictions": None}),
        ("error", {"error": {"message": "no"}, "reason": "invalid-data", "retryable": False}),
    ],
)
def test_what_a_route_would_refuse_or_never_say_is_not_valid(name: str, wrong: object) -> None:
    assert not valid(name, wrong)


def test_an_error_says_one_of_the_known_reasons_and_is_final() -> None:
    [kind] = [each for each in ANSWERS if each.key == "error"]
    assert isinstance(kind.example, dict)
    assert valid("error", kind.example)
    for change in ({"reason": "because"}, {"retryable": True}, {"error": {}}, {"more": 1}):
        assert not valid("error", {**kind.example, **change})


def test_the_reasons_of_a_dead_letter_are_those_of_the_delivery() -> None:
    assert get_args(DeadLetter.__annotations__["reason"]) == DEAD_LETTER_REASONS


def test_a_template_of_a_source_takes_sources_of_services_only() -> None:
    schema = DOCUMENT["components"]["schemas"]["response-event"]["properties"]["source"]
    assert of_document(schema).is_valid("/namespaces/ns/inferenceservices/summarize")
    assert not of_document(schema).is_valid("/namespaces/ns/services/summarize")


def test_attribute_names_are_names() -> None:
    for kind in KINDS:
        CloudEvent.create(
            {each.name: "x" for each in kind.attributes if each.type == "String"}
            | {"specversion": "1.0", "source": "/s", "datacontenttype": "text/plain"}
        )
