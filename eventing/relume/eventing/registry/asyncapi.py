"""The registry as an AsyncAPI 3.0 document: a message for each kind of event.

Each kind is there in binary mode, with its attributes as HTTP headers, and in structured mode.
"""

from collections.abc import Iterable, Mapping

from relume.eventing.registry.events import (
    ANSWERS,
    DEAD_LETTER_KIND,
    KINDS,
    REQUESTS,
    Attribute,
    Kind,
)
from relume.eventing.registry.schemas import SCHEMAS, Json

_STRUCTURED = "application/cloudevents+json"
_BATCHED = "application/cloudevents-batch+json"
_INT32 = 2**31
_HTTP = "0.3.0"  # version of AsyncAPI's HTTP binding


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document of what a Broker takes and what comes out of it."""
    taken = _names([*REQUESTS, *ANSWERS], batch=True)
    sent = _names([*ANSWERS, DEAD_LETTER_KIND])
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
        "sendAnswer": _sending("A Trigger delivers an answer", answers),
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
        "contentType": _BATCHED,
        "payload": {"type": "array", "items": {"$ref": "#/components/schemas/cloudevent"}},
    }
    return messages


def _binary(kind: Kind) -> Json:
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


def _structured(kind: Kind) -> Json:
    return {
        "name": f"{kind.key}Structured",
        "title": f"{kind.title}, structured mode",
        "summary": kind.description,
        "contentType": _STRUCTURED,
        "payload": {"$ref": f"#/components/schemas/{kind.key}-event"},
        **_correlation(kind, "$message.payload#/causationid"),
    }


def _correlation(kind: Kind, location: str) -> Json:
    if kind not in ANSWERS:
        return {}
    return {"correlationId": {"description": "The id of the request.", "location": location}}


def _components() -> Json:
    data = {name: _within(schema) for name, schema in SCHEMAS.items()}
    events = {f"{kind.key}-event": structured_schema(kind, _payload(kind)) for kind in KINDS}
    core = [each for each in KINDS[0].attributes if each.required]
    return {**data, **events, "cloudevent": _event("Any event", core, {})}


def structured_schema(kind: Kind, data: Json) -> Json:
    """The schema of a whole event in the JSON format; `data` is that of its data."""
    return _event(kind.title, kind.attributes, data)


def headers_schema(kind: Kind) -> Json:
    """The schema of an event's HTTP headers in binary mode, names in lower case."""
    headers = _binary(kind)["headers"]
    assert isinstance(headers, Mapping)
    return headers


def _event(title: str, attributes: Iterable[Attribute], data: Json) -> Json:
    members = {each.name: _member(each) for each in attributes}
    required = [each.name for each in attributes if each.required]
    return {
        "title": title,
        "type": "object",
        "required": required,
        "properties": {**members, "data": data},
    }


def _member(attribute: Attribute) -> Json:
    """The schema of an attribute in the JSON format."""
    if attribute.type == "Integer":
        kind: dict[str, object] = {"type": "integer", "minimum": -_INT32, "maximum": _INT32 - 1}
    else:
        kind = {"type": "string", "minLength": 1}
    return {**kind, **_narrowed(attribute), "description": attribute.description}


def _header(attribute: Attribute) -> Json:
    """The schema of an attribute as an HTTP header, which is always text."""
    kind: dict[str, object] = {"type": "string", "minLength": 1}
    if attribute.type == "Integer":
        kind["pattern"] = "^(0|-?[1-9][0-9]*)$"
    return {**kind, **_narrowed(attribute), "description": attribute.description}


def _narrowed(attribute: Attribute) -> Json:
    if attribute.one_of:
        return {"enum": list(attribute.one_of)}
    if attribute.value is None or attribute.name == "datacontenttype":
        # A media type may carry parameters.
        return {"format": "date-time"} if attribute.type == "Timestamp" else {}
    if "{" in attribute.value:
        pattern = attribute.value.replace("{namespace}", "[^/]+").replace("{name}", "[^/]+")
        return {"pattern": f"^{pattern}$"}
    return {"const": attribute.value}


def _is_header(attribute: Attribute) -> bool:
    return attribute.name != "datacontenttype"  # that is Content-Type


def _example_headers(kind: Kind) -> Mapping[str, str]:
    values = {"id": "8f14e45f", "source": "/shop/reviews", "type": "com.example.summarize.request"}
    if kind in ANSWERS:
        values |= {"id": "c9f0f895fb98ab91", "source": "/namespaces/default/inferenceservices/chat"}
        values |= {"type": str(kind.type), "causationid": "8f14e45f"}
    needed = [each for each in kind.attributes if each.required]
    return {f"ce-{each.name}": values.get(each.name, each.value or "") for each in needed}


def _payload(kind: Kind) -> Json:
    return {} if kind.schema is None else {"$ref": f"#/components/schemas/{kind.schema}"}


def _within(value: object) -> object:
    """A schema with its references to files turned into references within the document."""
    if isinstance(value, Mapping):
        if isinstance(ref := value.get("$ref"), str):
            return {"$ref": "#/components/schemas/" + ref.removesuffix(".json")}
        return {name: _within(each) for name, each in value.items()}
    return [_within(each) for each in value] if isinstance(value, list) else value


def _names(kinds: Iterable[Kind], *, batch: bool = False) -> list[str]:
    names = [name for kind in kinds for name in (kind.key, f"{kind.key}Structured")]
    return [*names, "batch"] if batch else names


def _refs(names: list[str], base: str) -> Mapping[str, Json]:
    return {name: {"$ref": base + name} for name in names}
