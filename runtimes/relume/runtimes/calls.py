"""From an event to the route that answers it and the JSON body for that route. Pure.

An event that is posted to a route goes to that route; one that is posted to `/` goes where its
data points: `messages` → chat, `prompt` → completions, `input` → embeddings, `inputs` → V2,
`instances` → V1, `text/plain` → chat with one user message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from relume.base.error_body import is_kserve_route
from relume.cloudevents.event import CloudEvent, charset_of, decoded, is_json
from relume.runtimes.replies import Failure
from relume.runtimes.subrequest import json_bytes

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
_BY_FIELD = {
    "messages": CHAT,
    "prompt": COMPLETIONS,
    "input": EMBEDDINGS,
    "inputs": "/v2/models/{model}/infer",
    "instances": "/v1/models/{model}:predict",
}
_PROMPTED = frozenset({CHAT, COMPLETIONS, "/v1/responses", "/v1/messages"})
_TEXT_FIELD = {COMPLETIONS: "prompt", EMBEDDINGS: "input"}


class Unanswerable(Exception):
    """The event can never succeed; carries the Failure that says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Call:
    """A POST of `body`, which is JSON, to `path`."""

    path: str
    body: bytes


def call_for(event: CloudEvent, path: str, *, model: str, now: datetime) -> Call:
    """The call that answers `event`, posted to `path`. Raises Unanswerable."""
    _check_expiry(event, now)
    payload = _payload(event, path)
    if path == "/":
        path = _route_for(payload).format(model=_model_of(payload, model))
    if path in _PROMPTED and not payload.get(
        "messages", payload.get("prompt", payload.get("input", True))
    ):
        raise Unanswerable(Failure(400, "invalid-data", "data: messages or prompt is empty"))
    if not is_kserve_route(path):
        payload["model"] = _model_of(payload, model)
        # A reply is one event: tokens that stream would have to be put together again.
        payload.pop("stream_options", None)
        if "stream" in payload:
            payload["stream"] = False
    try:
        return Call(path, json_bytes(payload))
    except ValueError as error:
        raise Unanswerable(Failure(400, "invalid-json", f"data is not JSON: {error}")) from error


def _payload(event: CloudEvent, path: str) -> dict[str, Any]:
    """The event's data as a JSON object; plain text becomes what `path` takes a text in."""
    content_type = (event.datacontenttype or "application/json").split(";", 1)[0].strip().lower()
    if content_type == "text/plain":
        text = _text(event)
        if field := _TEXT_FIELD.get(path):
            return {field: text}
        return {"messages": [{"role": "user", "content": text}]}
    if not is_json(event.datacontenttype):
        problem = f"datacontenttype {content_type!r}: send application/json or text/plain"
        raise Unanswerable(Failure(400, "invalid-data", problem))
    try:
        payload = json.loads(_text(event))
    except (ValueError, RecursionError) as error:
        raise Unanswerable(Failure(400, "invalid-json", f"data is not JSON: {error}")) from error
    if not isinstance(payload, dict):
        kind = type(payload).__name__
        raise Unanswerable(Failure(400, "invalid-data", f"data must be an object, got {kind}"))
    return payload


def _text(event: CloudEvent) -> str:
    """The event's data in the character set that it names, else UTF-8."""
    if event.data is None:
        raise Unanswerable(Failure(400, "invalid-data", "the event has no data"))
    charset = charset_of(event.datacontenttype) or "utf-8"
    try:
        return decoded(event.data, charset)
    except LookupError as error:
        problem = f"datacontenttype: {error}"
    except UnicodeDecodeError as error:
        problem = f"data is not {charset}: {error.reason} at byte {error.start}"
    raise Unanswerable(Failure(400, "invalid-data", problem))


def _model_of(payload: Mapping[str, Any], served: str) -> str:
    """The model that the data asks for, or the one that is served here."""
    model = payload.get("model")
    if model is None:
        return served
    if not isinstance(model, str):
        raise Unanswerable(Failure(400, "invalid-data", "data: model must be a text"))
    return model


def _route_for(payload: Mapping[str, Any]) -> str:
    for field, route in _BY_FIELD.items():
        if field in payload:
            return route
    fields = ", ".join(_BY_FIELD)
    raise Unanswerable(Failure(400, "invalid-data", f"data has none of the fields {fields}"))


def _check_expiry(event: CloudEvent, now: datetime) -> None:
    """The `expirytime` extension: nothing is generated for a caller who has stopped waiting."""
    expiry = event.attributes.get("expirytime")
    if expiry is None:
        return
    try:
        expires = datetime.fromisoformat(str(expiry).upper().replace("Z", "+00:00"))
        expired = now >= expires
    except (ValueError, TypeError) as error:
        problem = f"expirytime {str(expiry)!r} is not an RFC 3339 time"
        raise Unanswerable(Failure(400, "invalid-data", problem)) from error
    if expired:
        raise Unanswerable(Failure(400, "expired", f"the event expired at {expiry}"))
