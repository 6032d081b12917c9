"""Answers to clients of HTTP/1.0, which know no chunked bodies (RFC 9112 §6.1).

uvicorn's protocol on httptools sends a body of unknown length in chunks, also to them, and they
read the sizes of the chunks as text. Here such a body ends with the connection, which every answer
to HTTP/1.0 closes. ApacheBench and nginx's default for what it stands in front of are such clients.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_SIZED, _TRANSFER = b"content-length", b"transfer-encoding"


class Http10Aware(HttpToolsProtocol):
    """uvicorn's `http=` takes this class; it serves one connection."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] in ("0.9", "1.0"):
            cycle.waiting_for_100_continue = False  # they know none (RFC 9110 §10.1.1)
            app = _until_the_connection_ends(cycle, app)
        super()._start_asgi_task(cycle, app)


def _until_the_connection_ends(
    cycle: RequestResponseCycle, app: Any
) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return an application whose answers without a length are sent as they are."""

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        unsized = False

        async def unchunked(message: Any) -> None:
            nonlocal unsized
            if message["type"] == "http.response.start":
                headers = [h for h in message.get("headers", ()) if h[0].lower() != _TRANSFER]
                message = {**message, "headers": headers}
                unsized = all(name.lower() != _SIZED for name, _ in headers)
                if unsized:
                    cycle.chunked_encoding = False
            elif unsized:
                # All that uvicorn expects now: it compares the body with a length at its end.
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, unchunked)

    return answering
