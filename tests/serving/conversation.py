"""An HTTP client that speaks ASGI to the plane, so that a test sees every chunk and can hang up."""

import asyncio
from typing import Any

from starlette.types import ASGIApp


class Conversation:
    """One request under way."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any], *body: bytes) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.complete = False
        self._hung_up = asyncio.Event()
        self._inbox = [{"type": "http.request", "body": part, "more_body": True} for part in body]
        self._inbox[-1]["more_body"] = False
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._inbox:
            return self._inbox.pop(0)
        await self._hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.raw_headers = list(message["headers"])
            self.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            return
        self.chunks.append(message["body"])
        self.complete = not message.get("more_body", False)

    def hang_up(self) -> None:
        self._hung_up.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def done(self) -> bool:
        return self.task.done()

    async def end(self) -> "Conversation":
        """Wait, in real time, until it is over."""
        async with asyncio.timeout(60):
            await self.task
        return self


def ask(
    app: ASGIApp,
    path: str = "/serving/default/summarize/v1/chat/completions",
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    body: bytes = b"{}",
    more_body: bytes = b"",
    **more: Any,
) -> Conversation:
    """Begin a request; `more_body` arrives later, and `more` is what its scope has besides."""
    raw, _, query = path.partition("?")
    given = {"host": "localhost", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": raw,
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in given.items()],
        **more,
    }
    return Conversation(app, scope, body, *filter(None, [more_body]))
