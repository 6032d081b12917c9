"""One request and its answer, between uvicorn's protocol on httptools and an ASGI application.

It stands in the place of uvicorn's own cycle, does less for each request, and ends an answer
without a length as each client can read it: in chunks (RFC 9112 §7.1), or for HTTP/1.0, which knows
none, with the connection. ApacheBench is such a client, and so is nginx by default when it asks the
servers behind it.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from relume.base.vocabulary import BODY_FOLLOWS

if TYPE_CHECKING:
    from relume.web.protocol import HttpProtocol

_WITHOUT_BODY = (204, 304)
_FAILED_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"21"),
    (b"connection", b"close"),
]


class Exchange:
    """What uvicorn's protocol calls a cycle; `run_asgi` belongs into a task."""

    def __init__(self, protocol: "HttpProtocol", scope: Any, *, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self._is_old = scope["http_version"] in ("0.9", "1.0")
        # HTTP/1.0 knows no interim answers (RFC 9110 §10.1.1).
        self.waiting_for_100_continue = protocol.expect_100_continue and not self._is_old
        # What has come in of the request and was not given to the application.
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._protocol = protocol
        self._transport = protocol.transport
        self._flow = protocol.flow
        self._has_news = False
        self._waiting: asyncio.Event | None = None
        # How the body of the answer ends: after the bytes that are left, or else in chunks or with
        # the connection.
        self._left = 0
        self._is_chunked = self._is_unsized = False
        self._head = b""  # what waits for the body

    # ---- told by the protocol

    def take(self, part: bytes) -> None:
        """A part of the body has come in."""
        if not self.body:
            self.body = part
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)  # many small parts are not copied each time
            self.body += part
        self.wake()

    def end(self) -> None:
        """The request has come in completely."""
        self.more_body = False
        self.wake()

    def leave(self) -> None:
        """The client is gone."""
        self.disconnected = not self.response_complete
        self.wake()

    def wake(self) -> None:
        self._has_news = True
        if self._waiting is not None:
            self._waiting.set()

    # ---- ASGI

    async def run_asgi(self, app: Any) -> None:
        """Let the application answer; where it does not, answer 500 or hang up."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as error:
            self._protocol.logger.error("Exception in ASGI application\n", exc_info=error)
            await self._fail()
        else:
            if result is not None:
                self._protocol.logger.error("ASGI callable returned %r: it has to be None", result)
                self._transport.close()
            elif not self.response_complete and not self.disconnected:
                self._protocol.logger.error("ASGI callable returned without a complete answer")
                await self._fail()

    async def receive(self) -> dict[str, Any]:
        if self.waiting_for_100_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            if not self._has_news:
                if self._waiting is None:
                    self._waiting = asyncio.Event()
                self._waiting.clear()
                await self._waiting.wait()
            self._has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError(f"{message['type']!r} after the end of the answer")
        expected = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != expected:
            raise RuntimeError(f"{message['type']!r} in the place of {expected!r}")
        if self.response_started:
            self._send_part(message.get("body", b""), message.get("more_body", False))
        else:
            head = self._head_of(message["status"], message.get("headers", ()))
            if message.get(BODY_FOLLOWS):
                self._head = head
            else:
                self._transport.write(head)

    def _head_of(self, status: int, headers: Any) -> bytes:
        self.response_started = True
        if self.waiting_for_100_continue and self.more_body:
            # The client may send the body or not, so where the next request begins is not known.
            self.keep_alive = self.waiting_for_100_continue = False
        protocol = self._protocol
        if protocol.access_log:
            self._log(status)
        is_sized = is_told = False
        lines = [STATUS_LINE.get(status) or b"HTTP/1.1 %d \r\n" % status]
        for name, value in (*protocol.server_state.default_headers, *headers):
            name = _checked(name, value)
            if name == b"content-length" and not is_sized and not self._is_chunked:
                self._left = int(value)
                is_sized = True
            elif name == b"transfer-encoding":
                if self._is_old:
                    continue
                self._is_chunked = self._is_chunked or value.lower() == b"chunked"
            elif name == b"connection" and b"close" in _tokens(value):
                self.keep_alive = False
                is_told = True
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not is_told:
            lines.append(b"connection: close\r\n")
        if self._is_chunked or status in _WITHOUT_BODY:
            self._left = 0  # a length is that of another answer (RFC 9110 §8.6)
        elif not is_sized and self.scope["method"] != "HEAD":
            self._is_unsized = self._is_old
            if not self._is_old:
                self._is_chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _send_part(self, body: bytes, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self._left, body = 0, b""
        elif self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk if more else chunk + b"0\r\n\r\n"
        elif body and not self._is_unsized:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        if self._head:
            body, self._head = self._head + body, b""
        if body:
            self._transport.write(body)
        if more:
            return
        if self._left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        self.response_complete = True
        self.wake()
        if not self.keep_alive and self.more_body:
            self._protocol.linger()
        elif not self.keep_alive:
            self._transport.close()
        self._protocol.on_response_complete()

    async def _fail(self) -> None:
        if self.response_complete:
            return  # the connection belongs to the next request
        if self.response_started:
            self._transport.close()
            return
        start = {"type": "http.response.start", "status": 500, "headers": _FAILED_HEADERS}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b"Internal Server Error"})

    def _log(self, status: int) -> None:
        scope = self.scope
        self._protocol.access_logger.info(
            '%s - "%s %s HTTP/%s" %d',
            get_client_addr(scope),
            scope["method"],
            get_path_with_query_string(scope),
            scope["http_version"],
            status,
        )


def _checked(name: bytes, value: bytes) -> bytes:
    """The name of a header in lower case. Raises RuntimeError where it would break the answer."""
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError(f"invalid HTTP header {name!r}")
    return name.lower()


def _tokens(value: bytes) -> list[bytes]:
    return [token.lower().strip() for token in value.split(b",")]
