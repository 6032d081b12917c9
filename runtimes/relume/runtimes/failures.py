"""Why an event is not answered, and what a caller is told instead. Pure.

| the route answered | reason | status for the caller |
|---|---|---|
| 429, 503 | `overloaded` | the same |
| other 5xx, or the engine has ended | `engine-failed` | 503: another replica may answer |
| 404 for a model | `unknown-model` | 400, because brokers retry a 404 |
| no such route, 501, no JSON object | `unsupported` | 400 |
| 401, 403 | `unauthorized` | 400 |
| any other | `context-too-long` or `invalid-data` | 400, 413 or 422 |
| more than a broker stores | `reply-too-large` | no failure: only a broker is told |
"""

import json
from dataclasses import dataclass

from starlette.responses import Response

from relume.base.error_body import RETRY_AFTER_S, error_body
from relume.base.vocabulary import ENGINE_FAILED, NOT_BEGUN_HEADER
from relume.eventing.answer_event import error_data

#: A route may repeat all of its input in an error; a caller reads the beginning.
MESSAGE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class AnswerFailure:
    """Why a request was not answered. `status` is what a plain HTTP caller gets."""

    status: int
    reason: str
    message: str
    retryable: bool = False
    begun: bool = True
    """False: this replica takes no request any more, and the next try belongs to another one."""

    def to_json(self) -> dict[str, object]:
        """The data of an error event."""
        return error_data(self.status, self.reason, self.message, retryable=self.retryable)

    def response(self, path: str) -> Response:
        """The HTTP answer on `path`, in the error shape of that route."""
        body = error_body(
            path,
            status=self.status,
            message=self.message,
            reason=self.reason,
            retryable=self.retryable,
        )
        headers = {"content-type": "application/json"}
        if self.status in (429, 503):
            headers["retry-after"] = RETRY_AFTER_S
        if not self.begun:
            headers["connection"] = "close"
            headers[NOT_BEGUN_HEADER] = self.reason
        return Response(json.dumps(body).encode(), self.status, headers)


class Unanswerable(Exception):
    """The event is not answered; carries the AnswerFailure that says why."""

    def __init__(self, status: int, reason: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.failure = AnswerFailure(status, reason, message, retryable)


def invalid(problem: str, reason: str = "invalid-data") -> Unanswerable:
    """What it means that the event itself is wrong: no other try will go better."""
    return Unanswerable(400, reason, problem)


def too_large(size: int, most: int) -> AnswerFailure:
    """What a broker is told instead of an answer that it could not store."""
    text = f"the answer has {size} bytes, and a reply may have {most}: ask for less at once"
    return AnswerFailure(413, "reply-too-large", text)


def refusal(status: int, body: object, path: str) -> Unanswerable:
    """What it means that the route `path` answered `status` with the JSON value `body`."""
    text = (message_of(body) or f"the route answered {status}")[:MESSAGE_CHARACTERS]
    if status in (429, 503):
        return Unanswerable(status, "overloaded", text, retryable=True)
    if status == 501 or status < 300:
        return Unanswerable(
            400, "unsupported", f"POST {path} has no JSON object for an event: {text}"
        )
    if status >= 500:
        return Unanswerable(503, ENGINE_FAILED, text, retryable=True)
    if status in (404, 405) and isinstance(body, dict) and "detail" in body:
        # FastAPI's own answer, not a route's
        return Unanswerable(400, "unsupported", f"this model has no route POST {path}")
    if status == 404:
        return Unanswerable(400, "unknown-model", text)
    if status in (401, 403):
        return Unanswerable(400, "unauthorized", text)
    if "context length" in text or "max_model_len" in text:
        return Unanswerable(400, "context-too-long", text)
    return Unanswerable(status if status in (413, 422) else 400, "invalid-data", text)


def message_of(body: object) -> str | None:
    """The text of an error body in OpenAI's, KServe's or FastAPI's shape."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body.get("detail", body.get("message")))
    if isinstance(error, dict):
        error = error.get("message")
    if error is None or isinstance(error, str):
        return error
    return json.dumps(error)
