"""What the runtime emits is what the registry says: every reply, by the published schemas."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from event_client import Producer, Reply, chat_data, tensor
from jsonschema import Draft202012Validator, FormatChecker
from stub_vllm import MODEL, Stub
from test_events_out import hopeless

from relume.base.vocabulary import ERROR, RESPONSE
from relume.eventing.registry import events as registry
from relume.eventing.registry.documents import asyncapi
from relume.eventing.registry.events import ERROR_KIND, RESPONSE_KIND, EventKind

DOCUMENT: dict[str, Any] = json.loads(json.dumps(asyncapi()))
EVERYTHING = {
    "subject": "s",
    "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    "tracestate": "a=b",
    "partitionkey": "p",
    "correlationid": "c-1",
}
TIMED = {"relume-queue-ms": "12", "relume-cold-start-ms": "2300"}


def check(schema: object, value: object) -> None:
    """Raise ValidationError when `value` does not fit a schema of the AsyncAPI document."""
    whole = {"allOf": [schema], "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def headers_of(kind: EventKind) -> object:
    """The schema of the headers of an event in binary mode."""
    return DOCUMENT["components"]["messages"][kind.key]["headers"]


def known(attributes: Mapping[str, object], kind: EventKind) -> None:
    """Every attribute of a reply is in the registry's table."""
    assert attributes.keys() <= {each.name for each in kind.attributes}


def test_the_types_are_those_that_the_runtime_emits() -> None:
    assert (RESPONSE_KIND.type, ERROR_KIND.type) == (RESPONSE, ERROR)


@pytest.mark.parametrize(
    ("tasks", "data", "schema"),
    [
        ("generate", chat_data(), "chat-response"),
        ("generate", {"prompt": "abc"}, "completion-response"),
        ("generate", {"inputs": [tensor("a", "b")]}, "v2-response"),
        ("generate", {"instances": ["a", "b"]}, "v1-response"),
        ("embed", {"input": ["a", "bc"]}, "embedding-response"),
        ("embed", {"inputs": [tensor("a")]}, "v2-response"),
        ("embed", {"instances": ["a"]}, "v1-response"),
        ("classify", {"inputs": [tensor("a")]}, "v2-response"),
        ("classify", {"instances": ["a"]}, "v1-response"),
        ("score", {"instances": [{"text_1": "a", "text_2": "b"}]}, "v1-response"),
    ],
)
async def test_the_response_of_every_route_fits_its_schema_in_both_modes(
    process: None, tasks: str, data: dict[str, Any], schema: str
) -> None:
    producer = Producer(Stub((tasks,)))
    async with producer.http:
        structured = await producer.structured({**EVERYTHING, "data": data}, headers=TIMED)
        binary = await producer.binary(data, headers=TIMED, **EVERYTHING)
    event = structured.json()
    assert event["type"] == RESPONSE
    check({"$ref": "#/components/schemas/response-event"}, event)
    check({"$ref": f"#/components/schemas/{schema}"}, event["data"])
    check(headers_of(RESPONSE_KIND), dict(binary.headers))
    check({"$ref": "#/components/schemas/response"}, binary.json())
    known(Reply.of(structured).attributes, RESPONSE_KIND)


@pytest.mark.parametrize(
    ("path", "data"),
    [("/classify", {"input": ["a"]}), ("/score", {"text_1": "a", "text_2": "b"})],
)
async def test_the_response_of_a_route_that_gives_rows_fits_the_schema(
    process: None, path: str, data: dict[str, Any]
) -> None:
    producer = Producer(Stub((path.strip("/"),)))
    async with producer.http:
        event = (await producer.structured({"data": data}, path)).json()
    check({"$ref": "#/components/schemas/response-event"}, event)
    check({"$ref": "#/components/schemas/rows-response"}, event["data"])


async def test_plain_text_is_answered_as_a_chat(producer: Producer) -> None:
    members = {"data": "Hello", "datacontenttype": "text/plain"}
    event = (await producer.structured(members)).json()
    check({"$ref": "#/components/schemas/response-event"}, event)
    check({"$ref": "#/components/schemas/chat-response"}, event["data"])


@pytest.mark.parametrize(
    ("data", "more"), [pytest.param(row[1], row[2], id=row[0]) for row in hopeless()]
)
async def test_every_error_event_fits_its_schema(
    producer: Producer, data: object, more: dict[str, Any]
) -> None:
    more = dict(more)
    headers = {**more.pop("headers", {}), **TIMED, "prefer": "reply"}
    response = await producer.binary(data, headers=headers, **{**EVERYTHING, **more})
    reply = Reply.of(response)
    assert reply.attributes["type"] == ERROR
    check(headers_of(ERROR_KIND), dict(response.headers))
    check({"$ref": "#/components/schemas/error"}, reply.data)
    known(reply.attributes, ERROR_KIND)


async def test_an_error_event_fits_as_a_whole(producer: Producer) -> None:
    event = (await producer.structured({**EVERYTHING, "data": {"model": MODEL}})).json()
    check({"$ref": "#/components/schemas/error-event"}, event)


@pytest.mark.parametrize("kind", registry.REQUESTS, ids=lambda kind: kind.key)
async def test_the_example_of_each_request_is_answered(process: None, kind: EventKind) -> None:
    """By the published contract alone: what the document shows, the runtime takes."""
    task = "embed" if kind.key == "embedding" else "generate"
    producer = Producer(Stub((task,)))
    data = kind.example.encode() if isinstance(kind.example, str) else kind.example
    async with producer.http:
        response = await producer.binary(data, headers={"content-type": kind.content_type})
    assert Reply.of(response).attributes["type"] == RESPONSE
