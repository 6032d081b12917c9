"""The few ASGI types that the plane uses (asgiref's, narrowed to what we read and write)."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


def header(headers: RawHeaders, name: bytes) -> str | None:
    """Return the first value of a header; `name` in lower case."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def raw_path(scope: Scope) -> bytes:
    """Return the path as the client sent it, still percent-encoded, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw.partition(b"?")[0]


async def respond(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    """Send a complete response."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
