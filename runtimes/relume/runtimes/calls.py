"""Which route answers an event, and asking that route in process for its whole answer.

An event that is posted to a route goes to that route; one that is posted to `/` goes where its
data points: `messages` → chat, `prompt` → completions, `input` → embeddings, `inputs` → V2,
`instances` → V1, `text/plain` → chat with one user message.

The caller's own `receive` is handed on after the body, so that a caller who hangs up cancels the
generation that was started for it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope

from relume.base.error_body import is_kserve_route
from relume.cloudevents.asgi import receive_of
from relume.cloudevents.event import CloudEvent
from relume.runtimes.event_data import check_expiry, data_of
from relume.runtimes.failures import invalid

#: Marks a scope as one of ours: the middleware counted and admitted the outer request already.
INNER = "relume.inner"

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
# Headers that describe the outer message, not the inner one.
_DROPPED = frozenset(
    {
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"inference-header-content-length",
        b"prefer",
        b"transfer-encoding",
    }
)


@dataclass(frozen=True, slots=True)
class RouteCall:
    """A POST of `body`, which is JSON, to `path`."""

    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What a route answered."""

    status: int
    body: bytes

    def json(self) -> object:
        """The body as a JSON value; None where it is not JSON."""
        try:
            value: object = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value


def call_for(event: CloudEvent, path: str, *, model: str, now: datetime) -> RouteCall:
    """The call that answers `event`, posted to `path`. Raises Unanswerable."""
    check_expiry(event, now)
    data = data_of(event)
    payload = _around_text(data, path) if isinstance(data, str) else data
    if path == "/":
        path = _route_for(payload).format(model=_model_of(payload, model))
    if path in _PROMPTED and not payload.get(
        "messages", payload.get("prompt", payload.get("input", True))
    ):
        raise invalid("data: messages or prompt is empty")
    if not is_kserve_route(path):
        payload["model"] = _model_of(payload, model)
        # A reply is one event: streamed tokens would have to be put together again.
        payload.pop("stream_options", None)
        if "stream" in payload:
            payload["stream"] = False
    try:
        return RouteCall(path, json_bytes(payload))
    except ValueError as error:
        raise invalid(f"data is not JSON: {error}", "invalid-json") from error


def _around_text(text: str, path: str) -> dict[str, Any]:
    """A body for `path` with a plain text as its input; for `/` that is one of chat."""
    if field := _TEXT_FIELD.get(path):
        return {field: text}
    return {"messages": [{"role": "user", "content": text}]}


def _model_of(payload: Mapping[str, Any], served: str) -> str:
    """The model that the data asks for, or the one that is served here."""
    model = payload.get("model")
    if model is None:
        return served
    if not isinstance(model, str):
        raise invalid("data: model must be a text")
    return model


def _route_for(payload: Mapping[str, Any]) -> str:
    for field, route in _BY_FIELD.items():
        if field in payload:
            return route
    fields = ", ".join(_BY_FIELD)
    raise invalid(f"data has none of the fields {fields}")


def json_bytes(payload: object) -> bytes:
    """`payload` as JSON in UTF-8.

    Raises ValueError for what Python reads and JSON cannot express: NaN, lone surrogates, nesting
    that is too deep.
    """
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


async def post_json(app: ASGIApp, scope: Scope, receive: Receive, call: RouteCall) -> RouteAnswer:
    """Make the call to a route of `app`, with the headers of `scope` less its event's."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _DROPPED and not name.startswith(b"ce-")
    ]
    headers += [(b"content-type", b"application/json")]
    headers += [(b"content-length", str(len(call.body)).encode())]
    inner = {**scope, "path": call.path, "raw_path": quote(call.path).encode(), "query_string": b""}
    inner |= {"headers": headers, "method": "POST", "state": dict(scope.get("state", {}))}
    for key in ("route", "endpoint", "path_params", "router"):
        inner.pop(key, None)
    inner["root_path"] = ""
    inner[INNER] = True
    return await _collect(app, inner, call.body, receive)


async def _collect(app: ASGIApp, scope: Scope, body: bytes, receive: Receive) -> RouteAnswer:
    status = 500
    chunks: list[bytes] = []

    async def inner_send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    await app(scope, receive_of(body, receive), inner_send)
    return RouteAnswer(status, b"".join(chunks))
