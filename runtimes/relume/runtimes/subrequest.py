"""Ask another route of the same ASGI app, in process, and take its whole answer.

The caller's own `receive` is handed on after the body, so that a caller who hangs up cancels the
generation that was started for it.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope

#: Marks a scope as one of ours: the middleware counted and admitted the outer request already.
INNER = "relume.inner"

# About the outer message, not about the inner one.
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
class Answer:
    """A complete HTTP response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of header `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


def json_bytes(payload: object) -> bytes:
    """`payload` as JSON in UTF-8.

    Raises ValueError for what Python reads and JSON cannot say: NaN, lone surrogates, nesting
    without end.
    """
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


async def post_json(app: ASGIApp, scope: Scope, receive: Receive, path: str, body: bytes) -> Answer:
    """POST `body` to `path` of `app`, with the headers of `scope` less its event's."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _DROPPED and not name.startswith(b"ce-")
    ]
    headers += [(b"content-type", b"application/json")]
    headers += [(b"content-length", str(len(body)).encode())]
    inner = {**scope, "path": path, "raw_path": quote(path).encode(), "query_string": b""}
    inner |= {"headers": headers, "method": "POST", "state": dict(scope.get("state", {}))}
    for key in ("route", "endpoint", "path_params", "router"):
        inner.pop(key, None)
    inner["root_path"] = ""
    inner[INNER] = True
    return await _collect(app, inner, body, receive)


async def _collect(app: ASGIApp, scope: Scope, body: bytes, receive: Receive) -> Answer:
    sent = False
    status = 500
    headers: tuple[tuple[str, str], ...] = ()
    chunks: list[bytes] = []

    async def inner_receive() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def inner_send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            raw = message.get("headers", ())
            headers = tuple((k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in raw)
        elif message["type"] == "http.response.body":
            chunks.append(message.get("body", b""))

    await app(scope, inner_receive, inner_send)
    return Answer(status, headers, b"".join(chunks))


class BodyTooLarge(Exception):
    """The request's body is over the limit."""


class Disconnected(Exception):
    """The client went away before its body was complete."""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole request body. Raises BodyTooLarge or Disconnected."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
