"""One HTTP exchange with a predictor: bytes in, bytes out, as they come.

The request's body is read ahead a little, and gathered only where the model's name must be found in
it. Nothing is gathered on the way back: what the predictor writes is sent on in the same turn of
the event loop, so server-sent events arrive unbuffered (checklist A13). A request that may have an
effect is never sent twice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import aiohttp
from starlette.types import Receive, Scope, Send

from relume.base.prefixes import RawHeaders
from relume.base.vocabulary import DRAINING, NOT_BEGUN_HEADER
from relume.serving.errors import PredictorUnreachable, RequestTooLarge, ServingError
from relume.serving.holding import HeldRequest, Lease
from relume.serving.upstream import forwarded_headers, is_unsent, returned_headers, upstream_url


class Truncated(Exception):
    """The predictor broke off in the middle of its answer."""


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


class ResponseWriter:
    """The response to the client, and what is known about it."""

    def __init__(self, send: Send, held: HeldRequest) -> None:
        self._send = send
        self._held = held
        self._good = False
        self.begun = False
        """The client has status and headers already, without those of the predictor."""
        self.started = False
        self.finished = False
        self.sized = False
        """The response announced a Content-Length."""

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send status and headers."""
        self.started = True
        self._good = status < 400
        self.sized = any(name.lower() == b"content-length" for name, _ in headers)
        self._held.wrote(good_body=False)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, chunk: bytes) -> None:
        """Send a part of the body."""
        self._held.wrote(good_body=self._good)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes = b"") -> None:
        """Send the end of the body. A good answer without a body is an answer from here on."""
        self.finished = True
        self._held.wrote(good_body=self._good and not chunk)
        await self._send({"type": "http.response.body", "body": chunk})

    async def fail(self, error: ServingError, scope: Scope, receive: Receive) -> None:
        """Answer with an error, or put its text at the end of an answer that has begun (A5)."""
        if not self.started:
            await error.answer(scope, receive, self._send)
        elif not self.sized and not self.finished:
            await self.finish(error.body)

    async def leased(self, lease: Lease) -> None:
        """A replica has room, and the request is about to be sent to it."""

    async def close(self) -> None:
        """Nothing more is written."""


async def forward(
    session: aiohttp.ClientSession,
    scope: Scope,
    lease: Lease,
    raw_path: bytes,
    body: RequestBody,
    writer: ResponseWriter,
) -> None:
    """Send the request to the leased replica and pass the answer on.

    Where the replica does not begin with it, which it tells, or refuses the connection, nothing is
    written and the caller asks another one.
    Raises PredictorUnreachable when there is no answer, Truncated when it breaks off. Cancelled, it
    closes the connection, and so cancels the request in the predictor.
    """
    await writer.leased(lease)
    headers = forwarded_headers(scope["headers"], lease.headers)
    if writer.begun:
        headers.popall("accept-encoding", None)  # the client cannot be told of a coding any more
    whole = body.whole()
    if body.replaced and whole is not None:
        headers["content-length"] = str(len(whole))
    try:
        async with session.request(
            scope["method"],
            upstream_url(lease.backend.base_url, scope, raw_path),
            headers=headers,
            data=body.chunks() if whole is None else whole or None,
            allow_redirects=False,
        ) as response:
            if response.status == 503 and (why := response.headers.get(NOT_BEGUN_HEADER)):
                lease.backend.on_drain() if why == DRAINING else lease.backend.on_failing()
                if whole is not None:
                    return
            base_url = lease.backend.base_url
            extra = lease.headers
            returned = returned_headers(response.raw_headers, extra, scope, raw_path, base_url)
            await writer.start(response.status, returned)
            async for chunk in response.content.iter_any():
                await writer.write(chunk)
        await writer.finish()
    except (aiohttp.ClientError, OSError) as error:
        if is_unsent(error, scope["method"]):
            return lease.backend.on_failing()
        if writer.started:
            raise Truncated(str(error)) from error
        raise PredictorUnreachable(lease.backend.ended or error) from error
