"""Reply events: from an event and the answer of a route to the one event that answers it. Pure.

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
import os
from collections.abc import Mapping
from typing import Any

from relume.base.vocabulary import COPIED_ATTRIBUTES, ERROR, RESPONSE
from relume.cloudevents.event import CloudEvent
from relume.runtimes.calls import RouteAnswer
from relume.runtimes.failures import AnswerFailure, refusal


def body_of(answer: RouteAnswer, path: str) -> Mapping[str, object]:
    """The JSON object of a good answer; for a bad one, raise the Unanswerable that it means."""
    body = answer.json()
    if answer.status < 300 and isinstance(body, dict):
        return body
    raise refusal(answer.status, body, path)


def source_of_service(environment: Mapping[str, str] = os.environ) -> str:
    """The `source` of this predictor's events, from what KServe and Knative set in its pod."""
    name = environment.get("INFERENCE_SERVICE_NAME") or environment.get("K_SERVICE", "predictor")
    namespace = environment.get("RELUME_NAMESPACE", "default")
    return f"/namespaces/{namespace}/inferenceservices/{name}"


def reply_id(request: CloudEvent) -> str:
    """The same for each delivery of the same event: (source, id) is its identity (CE §3.1.1)."""
    return hashlib.sha256(f"{request.source}\0{request.id}".encode()).hexdigest()[:32]


def reply_event(
    request: CloudEvent,
    answer: Mapping[str, Any] | AnswerFailure,
    *,
    source: str,
    time: str,
    waited_ms: Mapping[str, int],
) -> CloudEvent:
    """The event that carries the JSON body of the route, or says why there can never be one."""
    data: Mapping[str, Any]
    usage: object
    if isinstance(answer, AnswerFailure):
        kind, data, usage = ERROR, answer.to_json(), None
    else:
        kind, data, usage = RESPONSE, answer, answer.get("usage")
    tokens = usage if isinstance(usage, Mapping) else {}
    counts = {
        "prompttokens": tokens.get("prompt_tokens"),
        "completiontokens": tokens.get("completion_tokens"),
        **waited_ms,
    }
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": reply_id(request),
        "source": source,
        "type": kind,
        "time": time,
        "datacontenttype": "application/json",
        "causationid": request.id,
    }
    for name in COPIED_ATTRIBUTES:
        if name in request.attributes:
            attributes[name] = request.attributes[name]
    if "correlationid" in request.attributes:
        attributes["replyid"] = request.attributes["correlationid"]
    attributes |= {name: value for name, value in counts.items() if _is_count(value)}
    return CloudEvent.create(
        attributes, json.dumps(data, ensure_ascii=False).encode(errors="replace")
    )


def _is_count(value: object) -> bool:
    """Whether `value` is a number that an attribute can hold: an Integer of 32 bits."""
    return type(value) is int and 0 <= value < 2**31
