"""The event that answers a request event. Pure.

The predictor makes one of each answer; the jobs plane makes one where no predictor has. Both give
the same id to the answer of the same request, so that whoever gets both by mistake can tell.

| attribute | value |
|---|---|
| type | `relume.inference.response` or `relume.inference.error` |
| source | `/namespaces/<ns>/inferenceservices/<name>` |
| id | from the request's (source, id), so that a redelivery gives the same reply id |
| subject, traceparent, tracestate, partitionkey, correlationid | the request's, when present |
| replyid | the request's correlationid, when present (Knative RequestReply) |
| causationid | the request's id |
| prompttokens, completiontokens, coldstartms, queuems | when known |
"""

import hashlib
import json
from collections.abc import Mapping

from relume.base.error_body import openai_error
from relume.base.vocabulary import COPIED_ATTRIBUTES, ERROR
from relume.cloudevents.event import CloudEvent

#: The words by which an event of type `ERROR` says why there is no answer, each for all time.
ERROR_REASONS = (
    *("invalid-json", "invalid-data", "unknown-model", "context-too-long", "reply-too-large"),
    *("expired", "unsupported", "unauthorized"),
    # From the jobs plane.
    *("retries-exhausted", "failed", "cancelled", "dataref-refused", "dataref-too-large"),
)


def source_of(namespace: str, name: str) -> str:
    """The `source` of the events of an InferenceService."""
    return f"/namespaces/{namespace}/inferenceservices/{name}"


def reply_id(source: object, id_: object) -> str:
    """The same for each delivery of the same event: (source, id) is its identity (CE §3.1.1)."""
    return hashlib.sha256(f"{source}\0{id_}".encode()).hexdigest()[:32]


def answer_event(
    request: Mapping[str, object],
    kind: str,
    data: Mapping[str, object],
    *,
    source: str,
    time: str,
    counts: Mapping[str, object],
) -> CloudEvent:
    """The event of type `kind` that answers the event with the attributes `request`.

    `counts` are attributes that are left out where they are no number that an attribute can hold.
    """
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": reply_id(request["source"], request["id"]),
        "source": source,
        "type": kind,
        "time": time,
        "datacontenttype": "application/json",
        "causationid": request["id"],
    }
    for name in COPIED_ATTRIBUTES:
        if name in request:
            attributes[name] = request[name]
    if "correlationid" in request:
        attributes["replyid"] = request["correlationid"]
    attributes |= {name: value for name, value in counts.items() if _is_count(value)}
    body = json.dumps(data, ensure_ascii=False).encode(errors="replace")
    return CloudEvent.create(attributes, body)


def error_data(
    status: int, reason: str, message: str, *, retryable: bool = False
) -> dict[str, object]:
    """The data of an event of type `ERROR`: OpenAI's error shape with our two words beside it."""
    kind = "service_unavailable" if retryable else "invalid_request_error"
    return openai_error(message, kind, status, reason=reason, retryable=retryable)


def error_event(
    request: Mapping[str, object],
    data: Mapping[str, object],
    *,
    source: str,
    time: str,
    counts: Mapping[str, object],
) -> CloudEvent:
    """The event that says why a request is not answered; `data` is from `error_data`."""
    return answer_event(request, ERROR, data, source=source, time=time, counts=counts)


def _is_count(value: object) -> bool:
    """Whether `value` is a number that an attribute can hold: an Integer of 32 bits."""
    return type(value) is int and 0 <= value < 2**31
