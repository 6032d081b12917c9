"""The event types of Relume: what an event of each kind carries. Data only.

From here come the EventTypes of Knative and the AsyncAPI document in `eventing/manifests/`
(`documents`). The schemas of the data lie there as files. Tests compare what the runtime emits
with both.

A request is known by its data and not by its type, which is the producer's own: the field that the
data has chooses the route (`messages`, `prompt`, `input`, `inputs`, `instances`), and plain text is
one user message. A dead letter keeps the type, too; its extensions tell what happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.base.vocabulary import (
    COPIED_ATTRIBUTES,
    DATAREF,
    ERROR,
    KEEP,
    MAX_ATTEMPTS,
    PRIORITY,
    QUEUE_TIMEOUT,
    RESPONSE,
    RUN_TIMEOUT,
    START_TIMEOUT,
    USAGE,
)

# spec 1.0.2 "Type System".
AttributeType = Literal["String", "Integer", "Timestamp", "URI-reference", "Binary"]

SOURCE = "/namespaces/{namespace}/inferenceservices/{name}"

#: The schemas of data, each a file in `eventing/manifests/schemas/`.
SCHEMA_NAMES = (
    *("chat-request", "completion-request", "embedding-request"),
    *("v2-request", "v1-request", "text-request"),
    *("chat-response", "completion-response", "embedding-response", "rows-response"),
    *("v2-response", "v1-response", "other-response", "response", "error", "usage"),
)
DEAD_LETTER_REASONS = (
    *("retries-exhausted", "rejected", "not-an-event", "reply-too-large", "ttl-exhausted"),
    "internal",
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


def _of_job(words: str) -> str:
    """What an extension says that only the jobs gateway reads."""
    return f"At the jobs gateway: {words[0].lower()}{words[1:]}"


_COPIED_WORDS = {
    "subject": "What the event is about.",
    "traceparent": "W3C Trace Context (extension distributed-tracing).",
    "tracestate": "W3C Trace Context (extension distributed-tracing).",
    "partitionkey": "Events of one key stay in order where a Trigger asks.",
    "correlationid": "What belongs together (extension correlation).",
}
_COPIED = tuple(AttributeSchema(name, "String", _COPIED_WORDS[name]) for name in COPIED_ATTRIBUTES)
_REQUESTED = (
    *_COPIED,
    AttributeSchema("expirytime", "Timestamp", "Nobody waits for the answer after this."),
    AttributeSchema(PRIORITY, "String", _of_job("high, normal or low; normal without it.")),
    AttributeSchema(MAX_ATTEMPTS, "Integer", _of_job("1 to 20; with 1 nothing is retried.")),
    AttributeSchema(QUEUE_TIMEOUT, "String", _of_job("How long it may wait, as in 90s or 5m.")),
    AttributeSchema(START_TIMEOUT, "String", _of_job("How long a cold start may take.")),
    AttributeSchema(RUN_TIMEOUT, "String", _of_job("How long the answer may take.")),
    AttributeSchema(KEEP, "String", _of_job("How long its answer is kept.")),
    AttributeSchema(DATAREF, "URI-reference", _of_job("Where the data lies; allowed hosts only.")),
)
_ANSWERED = (
    AttributeSchema("causationid", "String", "The id of the request.", True),
    *_COPIED,
    AttributeSchema("replyid", "String", "The request's correlationid (Knative RequestReply)."),
    AttributeSchema("queuems", "Integer", "Milliseconds that the request waited for a replica."),
    AttributeSchema("coldstartms", "Integer", "Milliseconds of the cold start that it waited for."),
    AttributeSchema(DATAREF, "URI-reference", "Where the data lies that is too long for an event."),
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

USAGE_KIND = EventKind(
    "usage",
    "Usage of a job",
    "What a job has cost that came to its end, whichever it was.",
    (
        *_core(USAGE, SOURCE, _JSON, "Made of the id and the round of the job."),
        AttributeSchema("subject", "String", "The id of the job.", True),
        AttributeSchema("causationid", "String", "The id of the request, where it was an event."),
    ),
    "usage",
    _JSON,
    {
        "job": "job_mfzwizltoqydcmru",
        "round": 1,
        "service": "default/chat",
        "route": "/v1/chat/completions",
        "tenant": "/shop/reviews",
        "priority": "normal",
        "state": "completed",
        "reason": "",
        "attempts": 1,
        "billable": True,
        "prompttokens": 12,
        "completiontokens": 3,
        "cachedtokens": 0,
        "queuems": 210,
        "coldstartms": 4100,
        "runms": 350,
    },
)

ANSWERS = (RESPONSE_KIND, ERROR_KIND)
#: The kinds whose type is ours.
OWN = (*ANSWERS, USAGE_KIND)
KINDS = (*REQUESTS, *OWN, DEAD_LETTER_KIND)
