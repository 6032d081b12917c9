"""JSON Schemas of the data of our events, by name. They refer to each other as files in one folder.

Only what Relume reads, or promises, is described; a route's own fields pass. The words used mean
the same in draft 2020-12, which the files name, and in draft 7, which AsyncAPI builds on.
"""

from collections.abc import Mapping

Json = Mapping[str, object]

ERROR_REASONS = (
    "invalid-json",
    "invalid-data",
    "unknown-model",
    "context-too-long",
    "expired",
    "unsupported",
    "unauthorized",
)

_TEXT: Json = {"type": "string", "minLength": 1}
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


_MESSAGE_IN = _object("Message", ["role"], {"role": _TEXT})
_MESSAGE_OUT = _object(
    "Message", ["role"], {"role": _TEXT, "content": {"type": ["string", "null"]}}
)
_VECTOR: Json = {"anyOf": [_some({"type": "number"}), {"type": "string"}]}
_ERROR = _object(
    "Cause",
    ["message", "type", "param", "code"],
    {
        "message": _TEXT,
        "type": {"type": "string"},
        "param": {"type": ["string", "null"]},
        "code": {"type": "integer", "description": "What a plain HTTP caller gets as status."},
    },
)

REQUESTS: Mapping[str, Json] = {
    "chat-request": _object(
        "Chat request", ["messages"], {"messages": _some(_MESSAGE_IN), "model": _MODEL}
    ),
    "completion-request": _object(
        "Completion request",
        ["prompt"],
        {"prompt": {"anyOf": [_TEXT, {"type": "array", "minItems": 1}]}, "model": _MODEL},
        **{"not": _without("messages")},
    ),
    "embedding-request": _object(
        "Embedding request",
        ["input"],
        {"input": {"anyOf": [_TEXT, {"type": "array", "minItems": 1}]}, "model": _MODEL},
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
    "text-request": {"title": "Text request", **_TEXT},
}

RESPONSES: Mapping[str, Json] = {
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
    **REQUESTS,
    **RESPONSES,
    "response": {
        "title": "Response",
        "anyOf": [{"$ref": f"{name}.json"} for name in RESPONSES],
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
