"""The body of a request: read ahead a little, gathered where the model's name must be found."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive

from relume.serving.errors import RequestTooLarge


class RequestBody:
    """Reads an ASGI request so that a disconnect is noticed while the request is held.

    `pump` runs beside the request. It reads ahead up to `high_water` bytes and then waits until
    some are taken: a client that goes away during such a pause is noticed only afterwards.
    """

    def __init__(
        self, receive: Receive, high_water: int, on_disconnect: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._high_water = high_water
        self._on_disconnect = on_disconnect
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._complete = False
        self.replaced = False
        """The body is another one than the client sent, and of another length."""
        self._changed = asyncio.Event()

    async def pump(self) -> None:
        """Read until the client goes away; cancel it when the response is sent."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._on_disconnect()
                return
            chunk: bytes = message.get("body", b"")
            if chunk:
                self._chunks.append(chunk)
                self._buffered += len(chunk)
            self._complete = not message.get("more_body", False)
            self._changed.set()
            while self._buffered >= self._high_water and not self._complete:
                self._changed.clear()
                await self._changed.wait()

    async def ahead(self) -> bytes | None:
        """Return the whole body once it has arrived, and leave it where it is.

        None where it is longer than what is read ahead. Nobody may take parts of it meanwhile.
        """
        while not self._complete and self._buffered < self._high_water:
            self._changed.clear()
            await self._changed.wait()
        return self.whole()

    def whole(self) -> bytes | None:
        """Return the body if all of it has arrived and none was taken, else None."""
        return b"".join(self._chunks) if self._complete else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                self._changed.set()
                yield chunk
            if self._complete:
                return
            self._changed.clear()
            await self._changed.wait()

    async def gather(self, limit: int) -> bytes:
        """Return the whole body and keep it for `chunks`. Raises RequestTooLarge above `limit`."""
        parts = []
        size = 0
        async for chunk in self.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise RequestTooLarge(limit)
        body = b"".join(parts)
        self._put_back(body)
        return body

    def replace(self, body: bytes) -> None:
        """Send `body` instead of the one that was gathered."""
        self.replaced = True
        self._put_back(body)

    def _put_back(self, body: bytes) -> None:
        self._chunks = deque([body] if body else [])
        self._buffered = len(body)
