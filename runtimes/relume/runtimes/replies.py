"""Reply events: from an event and the answer of a route to the one event that answers it. Pure.

`relume.eventing.answer_event` has the table of its attributes.
"""

import os
from collections.abc import Mapping
from typing import Any

from relume.base.vocabulary import ERROR, RESPONSE
from relume.cloudevents.event import CloudEvent
from relume.eventing.answer_event import answer_event, source_of
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
    return source_of(namespace, name)


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
    return answer_event(request.attributes, kind, data, source=source, time=time, counts=counts)
