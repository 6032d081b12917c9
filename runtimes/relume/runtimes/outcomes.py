"""What the answer of a route means for the event that asked for it. Pure.

| the route answered | reason | status for the caller |
|---|---|---|
| 2xx with a JSON object | | that is the response |
| 429, 503 | `overloaded` | the same |
| other 5xx | `engine-failed` | 503: another replica, or this one restarted, may answer |
| 404 for a model | `unknown-model` | 400, because brokers retry a 404 |
| no such route, 501, no JSON object | `unsupported` | 400 |
| 401, 403 | `unauthorized` | 400 |
| any other | `context-too-long` or `invalid-data` | 400, 413 or 422 |
"""

import json
from collections.abc import Mapping

from relume.runtimes.calls import Unanswerable
from relume.runtimes.replies import Failure
from relume.runtimes.subrequest import Answer

ENGINE_FAILED = "engine-failed"


def body_of(answer: Answer, path: str) -> Mapping[str, object]:
    """The JSON object of a good answer; of a bad one, raise the Unanswerable it means."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    if answer.status < 300 and isinstance(body, dict):
        return body
    raise Unanswerable(_failure(answer.status, body, path))


def _failure(status: int, body: object, path: str) -> Failure:
    text = _message_of(body) or f"the route answered {status}"
    if status in (429, 503):
        return Failure(status, "overloaded", text, retryable=True)
    if status == 501 or status < 300:
        return Failure(400, "unsupported", f"POST {path} has no JSON object for an event: {text}")
    if status >= 500:
        return Failure(503, ENGINE_FAILED, text, retryable=True)
    if status in (404, 405) and isinstance(body, dict) and "detail" in body:
        # FastAPI's own answer, not a route's
        return Failure(400, "unsupported", f"this model has no route POST {path}")
    if status == 404:
        return Failure(400, "unknown-model", text)
    if status in (401, 403):
        return Failure(400, "unauthorized", text)
    if "context length" in text or "max_model_len" in text:
        return Failure(400, "context-too-long", text)
    return Failure(status if status in (413, 422) else 400, "invalid-data", text)


def _message_of(body: object) -> str | None:
    """The text of an error body in OpenAI's, KServe's or FastAPI's shape."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body.get("detail", body.get("message")))
    if isinstance(error, dict):
        error = error.get("message")
    if error is None or isinstance(error, str):
        return error
    return json.dumps(error)
