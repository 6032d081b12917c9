"""The event types of Relume: what an event of each kind carries, and the schemas of its data.

From here come the EventTypes of Knative, the AsyncAPI document and the schemas that lie in
`eventing/manifests/` and that a Broker's ingress serves (`documents`). What the runtime
emits is held against it by the tests.

A request is known by its data and not by its type, which is the producer's own: the field that the
data has chooses the route (`messages`, `prompt`, `input`, `inputs`, `instances`), and plain text is
one user message. A dead letter keeps the type, too; its extensions tell what happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.base.vocabulary import ERROR, RESPONSE, Json

# spec 1.0.2 "Type System".
AttributeType = Literal["String", "Integer", "Timestamp", "URI-reference", "Binary"]

SOURCE = "/namespaces/{namespace}/inferenceservices/{name}"

DEAD_LETTER_REASONS = ("retries-exhausted", "rejected", "not-an-event", "ttl-exhausted", "internal")
ERROR_REASONS = (
    "invalid-json",
    "invalid-data",
    "unknown-model",
    "context-too-long",
    "expired",
    "unsupported",
    "unauthorized",
)


@dataclass(frozen=True, slots=True)
class AttributeSchema:
    """One context attribute. `value` is fixed, or a template with {variables}; None: any."""

    name: str
    type: AttributeType
    description: str
    required: bool = False
    value: str | None = None
    one_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event. `schema` names the schema of its data; None: any data, or none."""

    key: str
    title: str
    description: str
    attributes: tuple[AttributeSchema, ...]
    schema: str | None
    content_type: str
    example: Mapping[str, object] | str

    @property
    def type(self) -> str | None:
        """The CloudEvents type, where it is ours."""
        return next(each.value for each in self.attributes if each.name == "type")


def _core(
    type_: str | None, source: str | None, content_type: str, about_id: str
) -> tuple[AttributeSchema, ...]:
    about_type = "Your own; Triggers filter by it." if type_ is None else "What the event is."
    return (
        AttributeSchema("specversion", "String", "The CloudEvents version.", True, "1.0"),
        AttributeSchema("id", "String", about_id, True),
        AttributeSchema("source", "URI-reference", "Who the event is from.", True, source),
        AttributeSchema("type", "String", about_type, True, type_),
        AttributeSchema(
            "datacontenttype", "String", "The media type of the data.", False, content_type
        ),
        AttributeSchema("time", "Timestamp", "When the event was made."),
    )


_COPIED = (
    AttributeSchema("subject", "String", "What the event is about."),
    AttributeSchema("traceparent", "String", "W3C Trace Context (extension distributed-tracing)."),
    AttributeSchema("tracestate", "String", "W3C Trace Context (extension distributed-tracing)."),
    AttributeSchema(
        "partitionkey", "String", "Events of one key stay in order where a Trigger asks."
    ),
    AttributeSchema("correlationid", "String", "What belongs together (extension correlation)."),
)
_REQUESTED = (
    *_COPIED,
    AttributeSchema("expirytime", "Timestamp", "Nobody waits for the answer after this."),
)
_ANSWERED = (
    AttributeSchema("causationid", "String", "The id of the request.", True),
    *_COPIED,
    AttributeSchema("replyid", "String", "The request's correlationid (Knative RequestReply)."),
    AttributeSchema("queuems", "Integer", "Milliseconds that the request waited for a replica."),
    AttributeSchema("coldstartms", "Integer", "Milliseconds of the cold start that it waited for."),
)
_COUNTED = (
    AttributeSchema("prompttokens", "Integer", "Tokens of the prompt."),
    AttributeSchema("completiontokens", "Integer", "Tokens that were generated."),
)
_FAILED = (
    AttributeSchema("knativeerrordest", "URI-reference", "The subscriber that did not take it."),
    AttributeSchema("knativeerrorcode", "Integer", "Its last status; -1: it did not answer."),
    AttributeSchema("knativeerrordata", "Binary", "How its last answer begins, in base64."),
    AttributeSchema(
        "deadletterreason", "String", "Why it was given up.", False, None, DEAD_LETTER_REASONS
    ),
)

_JSON, _TEXT = "application/json", "text/plain"
_REQUEST_ID = "With source, the identity of the event: sent twice, it is answered once."
_REPLY_ID = "Made of the request's source and id: a repeated delivery gives the same one."


def _request(
    key: str, title: str, description: str, schema: str, example: Mapping[str, object] | str
) -> EventKind:
    content_type = _TEXT if isinstance(example, str) else _JSON
    attributes = (*_core(None, None, content_type, _REQUEST_ID), *_REQUESTED)
    return EventKind(key, title, description, attributes, schema, content_type, example)


_CHAT = {"messages": [{"role": "user", "content": "What is a GPU?"}], "max_tokens": 40}

REQUESTS = (
    _request("chat", "Chat", "Answered by /v1/chat/completions.", "chat-request", _CHAT),
    _request(
        "completion",
        "Completion",
        "Answered by /v1/completions.",
        "completion-request",
        {"prompt": "A GPU is", "max_tokens": 40},
    ),
    _request(
        "embedding",
        "Embedding",
        "Answered by /v1/embeddings.",
        "embedding-request",
        {"input": ["Hello", "Good day"]},
    ),
    _request(
        "tensors",
        "Open Inference Protocol (V2)",
        "Answered by /v2/models/{model}/infer; the first BYTES tensor holds the texts.",
        "v2-request",
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["Hello"]}]},
    ),
    _request(
        "instances",
        "KServe V1",
        "Answered by /v1/models/{model}:predict.",
        "v1-request",
        {"instances": ["Hello"]},
    ),
    _request("text", "Plain text", "A chat with one user message.", "text-request", "Hello"),
)

RESPONSE_KIND = EventKind(
    "response",
    "Inference response",
    "The answer to a request; its data is the body of the route that answered.",
    (*_core(RESPONSE, SOURCE, _JSON, _REPLY_ID), *_ANSWERED, *_COUNTED),
    "response",
    _JSON,
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "A processor."}}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
    },
)

ERROR_KIND = EventKind(
    "error",
    "Inference error",
    "The request can never succeed as it is, and why.",
    (*_core(ERROR, SOURCE, _JSON, _REPLY_ID), *_ANSWERED),
    "error",
    _JSON,
    {
        "error": {
            "message": "data has none of the fields messages, prompt",
            "type": "invalid_request_error",
            "param": None,
            "code": 400,
        },
        "reason": "invalid-data",
        "retryable": False,
    },
)

DEAD_LETTER_KIND = EventKind(
    "deadLetter",
    "Dead letter",
    "An event that could not be delivered, as it was, with what its subscriber said last.",
    (*_core(None, None, _JSON, _REQUEST_ID), *_REQUESTED, *_FAILED),
    None,
    _JSON,
    _CHAT,
)

ANSWERS = (RESPONSE_KIND, ERROR_KIND)
KINDS = (*REQUESTS, *ANSWERS, DEAD_LETTER_KIND)

# JSON Schemas of the data of our events, by name. They refer to each other as files in one folder.
# They describe only what Relume reads or promises; other fields of a route pass. The words used
# mean the same in draft 2020-12, which the files name, and in draft 7, which AsyncAPI builds on.

_STRING: Json = {"type": "string", "minLength": 1}
_MODEL: Json = {"type": "string", "description": "Only where it differs from the service's own."}
_USAGE: Json = {
    "type": ["object", "null"],
    "properties": {
        "prompt_tokens": {"type": "integer", "minimum": 0},
        "completion_tokens": {"type": ["integer", "null"]},
        "total_tokens": {"type": "integer", "minimum": 0},
    },
}


def _object(title: str, required: list[str], properties: Json, **more: object) -> Json:
    return {
        "title": title,
        "type": "object",
        "required": required,
        "properties": properties,
        **more,
    }


def _some(items: Json) -> Json:
    return {"type": "array", "minItems": 1, "items": items}


def _without(*fields: str) -> Json:
    return {"anyOf": [{"required": [field]} for field in fields]}


def _tensor(title: str) -> Json:
    return _object(
        title,
        ["name", "datatype", "shape"],
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
            "data": {"type": "array"},
        },
    )


def _choices(title: str, choice: Json) -> Json:
    fields = {"choices": _some(choice), "model": {"type": "string"}, "usage": _USAGE}
    return _object(title, ["choices"], fields)


_MESSAGE_IN = _object("Message", ["role"], {"role": _STRING})
_MESSAGE_OUT = _object(
    "Message", ["role"], {"role": _STRING, "content": {"type": ["string", "null"]}}
)
_VECTOR: Json = {"anyOf": [_some({"type": "number"}), {"type": "string"}]}
_ERROR = _object(
    "Cause",
    ["message", "type", "param", "code"],
    {
        "message": _STRING,
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "integer", "description": "What a plain HTTP caller gets as status."},
    },
)

_REQUEST_DATA: Mapping[str, Json] = {
    "chat-request": _object(
        "Chat request", ["messages"], {"messages": _some(_MESSAGE_IN), "model": _MODEL}
    ),
    "completion-request": _object(
        "Completion request",
        ["prompt"],
        {"prompt": {"anyOf": [_STRING, {"type": "array", "minItems": 1}]}, "model": _MODEL},
        **{"not": _without("messages")},
    ),
    "embedding-request": _object(
        "Embedding request",
        ["input"],
        {"input": {"anyOf": [_STRING, {"type": "array", "minItems": 1}]}, "model": _MODEL},
        **{"not": _without("messages", "prompt")},
    ),
    "v2-request": _object(
        "V2 request",
        ["inputs"],
        {"inputs": _some(_tensor("Tensor")), "parameters": {"type": "object"}, "model": _MODEL},
        **{"not": _without("messages", "prompt", "input")},
    ),
    "v1-request": _object(
        "V1 request",
        ["instances"],
        {
            "instances": {"type": "array", "minItems": 1},
            "parameters": {"type": "object"},
            "model": _MODEL,
        },
        **{"not": _without("messages", "prompt", "input", "inputs")},
    ),
    "text-request": {"title": "Text request", **_STRING},
}

_RESPONSE_DATA: Mapping[str, Json] = {
    "chat-response": _choices(
        "Chat response", _object("Choice", ["message"], {"message": _MESSAGE_OUT})
    ),
    "completion-response": _choices(
        "Completion response", _object("Choice", ["text"], {"text": {"type": "string"}})
    ),
    "embedding-response": _object(
        "Embedding response",
        ["data"],
        {
            "data": _some(_object("Row", ["embedding"], {"embedding": _VECTOR})),
            "usage": _USAGE,
        },
    ),
    "rows-response": _object(
        "Response of a route that classifies or scores",
        ["data"],
        {"data": _some({"type": "object", "not": {"required": ["embedding"]}}), "usage": _USAGE},
    ),
    "v2-response": _object(
        "V2 response",
        ["model_name", "outputs"],
        {"model_name": {"type": "string"}, "outputs": _some(_tensor("Tensor"))},
    ),
    "v1-response": _object(
        "V1 response", ["predictions"], {"predictions": {"type": "array", "minItems": 1}}
    ),
    "other-response": {
        "title": "Response of another route",
        "type": "object",
        "not": _without("choices", "data", "outputs", "predictions"),
    },
}

SCHEMAS: Mapping[str, Json] = {
    **_REQUEST_DATA,
    **_RESPONSE_DATA,
    "response": {
        "title": "Response",
        "anyOf": [{"$ref": f"{name}.json"} for name in _RESPONSE_DATA],
    },
    "error": _object(
        "Error",
        ["error", "reason", "retryable"],
        {
            "error": _ERROR,
            "reason": {"enum": list(ERROR_REASONS), "description": "A word for programs."},
            "retryable": {
                "const": False,
                "description": "What may succeed later is tried again and is no event.",
            },
        },
        additionalProperties=False,
    ),
}
