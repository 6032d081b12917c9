"""The registry as documents: Knative EventTypes, AsyncAPI 3.0, JSON Schema files. Deterministic.

`files` is all of `eventing/manifests/`; `make manifests` writes it, and a test compares it with the
files that are checked in. `Catalogue` serves the same in front of the Brokers' ingress:

GET /asyncapi.json, /asyncapi.yaml     what the Brokers take and send, as AsyncAPI 3.0
GET /schemas/<name>.json               the JSON Schema of the data of one kind of event

In the AsyncAPI document each kind of event is there in binary mode, with its attributes as HTTP
headers, and in structured mode.
"""

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.vocabulary import Json
from relume.cloudevents.http import BATCH_TYPE, STRUCTURED_TYPE
from relume.eventing.registry.events import (
    ANSWERS,
    DEAD_LETTER_KIND,
    KINDS,
    OWN,
    REQUESTS,
    SCHEMA_NAMES,
    USAGE_KIND,
    AttributeSchema,
    EventKind,
)

_GENERATED = "# Made from relume.eventing.registry.events by `make manifests`.\n"
_INT32 = 2**31
_HTTP = "0.3.0"  # version of AsyncAPI's HTTP binding


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: every place says what it means."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> Mapping[str, str]:
    """Each file's path below `eventing/manifests/`, and its text."""
    schemas = {f"schemas/{name}.json": _json(schema_file(name)) for name in SCHEMA_NAMES}
    return {
        "eventtypes.yaml": _GENERATED + _yaml_all(event_types()),
        "asyncapi.yaml": _GENERATED + to_yaml(asyncapi()),
        **schemas,
    }


@functools.cache
def schema_file(name: str) -> Json:
    """A schema as it is read on its own; what it refers to lies beside it.

    A schema describes only what Relume reads or promises; other fields of a route pass. The words
    used mean the same in draft 2020-12, which the files name, and in draft 7, which AsyncAPI uses.
    """
    package = Path(__file__).parents[1]
    # In the repository, and in an installed package.
    places = [folder / "manifests" / "schemas" for folder in (package.parents[1], package)]
    path = next(place for place in places if place.is_dir()) / f"{name}.json"
    schema: Json = json.loads(path.read_bytes())
    return schema


def event_types() -> list[Json]:
    """An EventType (v1beta3) for each type that is ours; a namespace is the reader's to choose.

    `type`, `source`, `specversion` and `id` must be there (knative/eventing
    pkg/apis/eventing/v1beta3/eventtype_validation.go).
    """
    return [
        {
            "apiVersion": "eventing.knative.dev/v1beta3",
            "kind": "EventType",
            "metadata": {"name": kind.type},
            "spec": {
                "description": kind.description,
                "attributes": [_event_type_attribute(each) for each in kind.attributes],
            },
        }
        for kind in OWN
    ]


def _event_type_attribute(attribute: AttributeSchema) -> Json:
    shown: dict[str, object] = {"name": attribute.name, "required": attribute.required}
    return {**shown, "value": attribute.value} if attribute.value else shown


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: Json) -> str:
    """One YAML document."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _yaml_all(documents: list[Json]) -> str:
    return "---\n".join(map(to_yaml, documents))


class Catalogue:
    """An ASGI app that answers a few GETs itself."""

    def __init__(self, ingress: ASGIApp) -> None:
        self._ingress = ingress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            answer = _documents().get(scope["path"])
        if answer is None:
            return await self._ingress(scope, receive, send)
        media_type, text = answer
        await Response(text, media_type=media_type)(scope, receive, send)


@functools.cache
def _documents() -> dict[str, tuple[str, bytes]]:
    """(media type, text) by path; made at the first GET."""
    document = asyncapi()
    schemas = {
        f"/schemas/{name}.json": ("application/schema+json", _compact(schema_file(name)))
        for name in SCHEMA_NAMES
    }
    return {
        "/asyncapi.json": ("application/json", _compact(document)),
        "/asyncapi.yaml": ("application/yaml", to_yaml(document).encode()),
        **schemas,
    }


def _compact(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document of what a Broker takes and what comes out of it."""
    taken = _names([*REQUESTS, *OWN], batch=True)
    sent = _names([*OWN, DEAD_LETTER_KIND])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Relume",
            "version": "1.0.0",
            "description": "LLM inference that runs when an event arrives. Every accepted request "
            "gets exactly one answer: a response, or an error. CloudEvents 1.0.2 over HTTP.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {
            "broker": {
                "address": "/{namespace}/{broker}",
                "title": "The ingress of a Broker",
                "description": "202 means stored. Answers come back into the Broker as well.",
                "parameters": {
                    "namespace": {"description": "The namespace of the Broker."},
                    "broker": {"description": "The name of the Broker."},
                },
                "messages": _refs(taken, "#/components/messages/"),
            },
            "jobs": {
                "address": "/events/{namespace}/{service}/{route}",
                "title": "The door of the jobs gateway for events",
                "description": "202 means stored. The answer goes to the Broker that `?broker=` "
                "names (NAMESPACE/NAME), else to the configured sink.",
                "parameters": {
                    "namespace": {"description": "The namespace of the InferenceService."},
                    "service": {"description": "The name of the InferenceService."},
                    "route": {"description": "The path at the predictor; empty: by the data."},
                },
                "messages": _refs(_names(REQUESTS), "#/components/messages/"),
            },
            "subscriber": {
                "address": None,
                "title": "The subscriber of a Trigger, or a dead letter sink",
                "description": "The manifests of a deployment say where it is.",
                "messages": _refs(sent, "#/components/messages/"),
            },
        },
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _components()},
    }


def _servers() -> Json:
    local = {"description": "The port of `relume up`.", "default": "8081"}
    return {
        "machine": {
            "host": "127.0.0.1:{port}",
            "protocol": "http",
            "description": "One machine: `relume up`.",
            "variables": {"port": local},
        },
        "cluster": {
            "host": "broker-ingress.knative-eventing.svc.cluster.local",
            "protocol": "http",
            "description": "Knative's own Broker; others have ingresses of their own.",
        },
    }


def _operations() -> Json:
    requests, answers = _names(REQUESTS, batch=True), _names(ANSWERS)
    return {
        "receiveRequest": {
            "action": "receive",
            "channel": {"$ref": "#/channels/broker"},
            "title": "A producer asks",
            "messages": list(_refs(requests, "#/channels/broker/messages/").values()),
            "reply": {
                "channel": {"$ref": "#/channels/broker"},
                "messages": list(_refs(answers, "#/channels/broker/messages/").values()),
            },
            "bindings": {"http": {"method": "POST", "bindingVersion": _HTTP}},
        },
        "receiveJob": {
            "action": "receive",
            "channel": {"$ref": "#/channels/jobs"},
            "title": "A Trigger or a producer asks for a job",
            "messages": list(_refs(_names(REQUESTS), "#/channels/jobs/messages/").values()),
            "bindings": {"http": {"method": "POST", "bindingVersion": _HTTP}},
        },
        "sendAnswer": _sending("A Trigger delivers an answer", answers),
        "sendUsage": _sending("A Trigger delivers what a job has cost", _names([USAGE_KIND])),
        "sendDeadLetter": _sending("What could not be delivered", _names([DEAD_LETTER_KIND])),
    }


def _sending(title: str, messages: list[str]) -> Json:
    return {
        "action": "send",
        "channel": {"$ref": "#/channels/subscriber"},
        "title": title,
        "messages": list(_refs(messages, "#/channels/subscriber/messages/").values()),
        "bindings": {"http": {"method": "POST", "bindingVersion": _HTTP}},
    }


def _messages() -> Json:
    messages: dict[str, Json] = {}
    for kind in KINDS:
        messages[kind.key] = _binary(kind)
        messages[f"{kind.key}Structured"] = _structured(kind)
    messages["batch"] = {
        "name": "batch",
        "title": "Several events at once",
        "summary": "202 means that all of them are stored; after any other answer, send all again.",
        "contentType": BATCH_TYPE,
        "payload": {"type": "array", "items": {"$ref": "#/components/schemas/cloudevent"}},
    }
    return messages


def _binary(kind: EventKind) -> Json:
    headers = {f"ce-{each.name}": _header(each) for each in kind.attributes if _is_header(each)}
    required = [f"ce-{each.name}" for each in kind.attributes if each.required]
    return {
        "name": kind.key,
        "title": f"{kind.title}, binary mode",
        "summary": kind.description,
        "contentType": kind.content_type,
        "headers": {"type": "object", "required": required, "properties": headers},
        "payload": _payload(kind),
        **_correlation(kind, "$message.header#/ce-causationid"),
        "examples": [{"headers": _example_headers(kind), "payload": kind.example}],
    }


def _structured(kind: EventKind) -> Json:
    return {
        "name": f"{kind.key}Structured",
        "title": f"{kind.title}, structured mode",
        "summary": kind.description,
        "contentType": STRUCTURED_TYPE,
        "payload": {"$ref": f"#/components/schemas/{kind.key}-event"},
        **_correlation(kind, "$message.payload#/causationid"),
    }


def _correlation(kind: EventKind, location: str) -> Json:
    if kind not in ANSWERS:
        return {}
    return {"correlationId": {"description": "The id of the request.", "location": location}}


def _components() -> Json:
    data = {name: _within(schema_file(name)) for name in SCHEMA_NAMES}
    events = {f"{kind.key}-event": structured_schema(kind, _payload(kind)) for kind in KINDS}
    core = [each for each in KINDS[0].attributes if each.required]
    return {**data, **events, "cloudevent": _event("Any event", core, {})}


def structured_schema(kind: EventKind, data: Json) -> Json:
    """The schema of a whole event in the JSON format; `data` is that of its data."""
    return _event(kind.title, kind.attributes, data)


def _event(title: str, attributes: Iterable[AttributeSchema], data: Json) -> Json:
    members = {each.name: _member(each) for each in attributes}
    required = [each.name for each in attributes if each.required]
    return {
        "title": title,
        "type": "object",
        "required": required,
        "properties": {**members, "data": data},
    }


def _member(attribute: AttributeSchema) -> Json:
    """The schema of an attribute in the JSON format."""
    if attribute.type == "Integer":
        kind: dict[str, object] = {"type": "integer", "minimum": -_INT32, "maximum": _INT32 - 1}
    else:
        kind = {"type": "string", "minLength": 1}
    return {**kind, **_narrowed(attribute), "description": attribute.description}


def _header(attribute: AttributeSchema) -> Json:
    """The schema of an attribute as an HTTP header, which is always text."""
    kind: dict[str, object] = {"type": "string", "minLength": 1}
    if attribute.type == "Integer":
        kind["pattern"] = "^(0|-?[1-9][0-9]*)$"
    return {**kind, **_narrowed(attribute), "description": attribute.description}


def _narrowed(attribute: AttributeSchema) -> Json:
    if attribute.one_of:
        return {"enum": list(attribute.one_of)}
    if attribute.value is None or attribute.name == "datacontenttype":
        # A media type may carry parameters.
        return {"format": "date-time"} if attribute.type == "Timestamp" else {}
    if "{" in attribute.value:
        pattern = attribute.value.replace("{namespace}", "[^/]+").replace("{name}", "[^/]+")
        return {"pattern": f"^{pattern}$"}
    return {"const": attribute.value}


def _is_header(attribute: AttributeSchema) -> bool:
    return attribute.name != "datacontenttype"  # that is Content-Type


def _example_headers(kind: EventKind) -> Mapping[str, str]:
    values = {"id": "8f14e45f", "source": "/shop/reviews", "type": "com.example.summarize.request"}
    if kind in ANSWERS:
        values |= {"id": "c9f0f895fb98ab91", "source": "/namespaces/default/inferenceservices/chat"}
        values |= {"type": str(kind.type), "causationid": "8f14e45f"}
    if kind is USAGE_KIND:
        values |= {"id": "c81e728d9d4c2f63", "source": "/namespaces/default/inferenceservices/chat"}
        values |= {"type": str(kind.type), "subject": "job_mfzwizltoqydcmru"}
    needed = [each for each in kind.attributes if each.required]
    return {f"ce-{each.name}": values.get(each.name, each.value or "") for each in needed}


def _payload(kind: EventKind) -> Json:
    return {} if kind.schema is None else {"$ref": f"#/components/schemas/{kind.schema}"}


def _within(value: object) -> object:
    """A schema with its references to files turned into references within the document."""
    if isinstance(value, Mapping):
        if isinstance(ref := value.get("$ref"), str):
            return {"$ref": "#/components/schemas/" + ref.removesuffix(".json")}
        return {name: _within(each) for name, each in value.items() if name != "$schema"}
    return [_within(each) for each in value] if isinstance(value, list) else value


def _names(kinds: Iterable[EventKind], *, batch: bool = False) -> list[str]:
    names = [name for kind in kinds for name in (kind.key, f"{kind.key}Structured")]
    return [*names, "batch"] if batch else names


def _refs(names: list[str], base: str) -> Mapping[str, Json]:
    return {name: {"$ref": base + name} for name in names}
