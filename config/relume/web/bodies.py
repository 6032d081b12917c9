"""ASGI middleware: an application gets the body that the client meant, never a compressed one.

A body with a Content-Encoding is decoded as it is read, piece by piece, and the application sees a
request without that header. What cannot be decoded is refused before it is read:

| the request | answer |
|---|---|
| no body, no Content-Encoding, or `identity` | passes untouched |
| gzip, deflate | decoded; 413 when more than `limit` bytes come out of it |
| any other coding, or several | 415 with `Accept-Encoding` (RFC 9110 §15.5.16) |
| a body that is not what the header says | 400 |
| a Transfer-Encoding besides `chunked` | 501 (RFC 9112 §6.1) |
"""

import asyncio
import json
from collections.abc import Callable, Iterator

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.base.error_body import error_body
from relume.web.codings import ACCEPTED, BrokenCoding, Decoder, UnsupportedCoding, coding_of

#: How many bytes a body may have once it is decoded.
MAX_DECODED_BYTES = 64 * 2**20
_ENCODING, _TRANSFER, _LENGTH = b"content-encoding", b"transfer-encoding", b"content-length"
_ABOUT_BODY = frozenset({_ENCODING, _TRANSFER, _LENGTH})

#: Makes the JSON body of a refusal from the path, the status, the message and the reason.
BodyRefusal = Callable[[str, int, str, str], object]


def as_on_route(path: str, status: int, message: str, reason: str) -> object:
    """A refusal in the shape that clients of the model's routes read."""
    return error_body(path, status=status, message=message, reason=reason, retryable=False)


def as_at_broker(path: str, status: int, message: str, reason: str) -> object:
    """A refusal in the shape that the Broker's own refusals have."""
    return {"error": message, "reason": reason}


class DecodedBodies:
    """The middleware; `refusal` is the shape of its own answers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int | None = None,
        refusal: BodyRefusal = as_on_route,
    ) -> None:
        self.app = app
        self._limit = MAX_DECODED_BYTES if limit is None else limit
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        about = [(name, value) for name, value in scope["headers"] if name in _ABOUT_BODY]
        if not _is_coded(about):
            await self.app(scope, receive, send)
            return
        try:
            transfer = _joined(about, _TRANSFER)
            if transfer.strip().lower() not in ("", "chunked"):
                text = f"Transfer-Encoding: {transfer[:80]!r} is not supported: send chunked"
                await self._refuse(scope, receive, send, 501, text, "unsupported-transfer-encoding")
                return
            coding = coding_of(_joined(about, _ENCODING))
        except UnsupportedCoding as error:
            await self._refuse(scope, receive, send, 415, str(error), error.reason)
            return
        if coding is None:
            await self.app(scope, receive, send)
        else:
            await self._decoded(Decoder(coding), scope, receive, send)

    async def _decoded(self, decoder: Decoder, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [h for h in scope["headers"] if h[0] not in _ABOUT_BODY]
        headers.append((_TRANSFER, b"chunked"))  # its length is known when all of it was decoded
        body = _DecodedBody(decoder, receive, self._limit)
        started = False

        async def receive_decoded() -> Message:
            try:
                return await body.receive()
            except BrokenCoding as error:
                status, text, reason = 400, str(error), error.reason
            except _TooLarge:
                text = f"the body is larger than {self._limit} bytes when it is decoded"
                status, reason = 413, "too-large"
            body.failed = True
            if not started:
                await self._refuse(scope, receive, send, status, text, reason)
            return {"type": "http.disconnect"}

        async def send_unless_refused(message: Message) -> None:
            nonlocal started
            if started or not body.failed:
                started = True
                await send(message)

        inner = {**scope, "headers": headers}
        await self.app(inner, receive_decoded, send_unless_refused)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, status: int, text: str, reason: str
    ) -> None:
        # The rest of the request is not read, so this connection has no other use.
        headers = {"content-type": "application/json", "connection": "close"}
        if status == 415:
            headers["accept-encoding"] = ACCEPTED
        content = json.dumps(self._refusal(scope["path"], status, text, reason)).encode()
        await Response(content, status, headers)(scope, receive, send)


class _TooLarge(Exception):
    """More bytes came out of the body than it may have."""


class _DecodedBody:
    """Reads the coded body of a request, and gives it decoded."""

    def __init__(self, decoder: Decoder, receive: Receive, limit: int) -> None:
        self._decoder = decoder
        self._receive = receive
        self._left = limit
        self._pieces: Iterator[bytes] = iter(())
        self._has_more = True
        self._is_over = False
        self.failed = False

    async def receive(self) -> Message:
        """The next piece, or the message that ends it. Raises BrokenCoding and _TooLarge."""
        if self.failed:
            return {"type": "http.disconnect"}
        while not self._is_over:
            if (piece := next(self._pieces, None)) is not None:
                await asyncio.sleep(0)  # others have their turn between two pieces
                return self._part(piece, more=True)
            if not self._has_more:
                self._is_over = True
                return self._part(self._decoder.end(), more=False)
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._pieces = self._decoder.feed(message.get("body", b""))
            self._has_more = message.get("more_body", False)
        return await self._receive()

    def _part(self, piece: bytes, *, more: bool) -> Message:
        self._left -= len(piece)
        if self._left < 0:
            raise _TooLarge
        return {"type": "http.request", "body": piece, "more_body": more}


def _is_coded(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether there is a body, and one of its headers names a coding of any kind."""
    found = dict(headers)
    has_body = _TRANSFER in found or found.get(_LENGTH, b"0").strip(b"0") != b""
    return has_body and (_ENCODING in found or _TRANSFER in found)


def _joined(headers: list[tuple[bytes, bytes]], name: bytes) -> str:
    """The values of one header as RFC 9110 §5.3 puts them together."""
    return ", ".join(value.decode("latin-1") for key, value in headers if key == name)
