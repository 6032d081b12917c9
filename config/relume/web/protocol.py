"""HTTP/1.1 on every port of ours: uvicorn's own protocol, with what RFC 9110 and 9112 also ask for.

uvicorn reads requests with httptools, which is fast, and has gaps. Three lose a request, and one
costs memory:

- An `Upgrade` that the server does not take has to be ignored (RFC 9110 §7.8). httptools ends the
  message behind the head instead, so the body is lost, or is read as the next request. Here such a
  request is read again without its offer. WebSockets are taken as before.
- A request that stops in the middle is held for ever. Here it is answered with 408.
- A client that has sent its request and closes only its sending side gets no answer. Here it does.
- The head of a request may grow without a bound. Here it is refused with 431 (RFC 6585 §5).
"""

import asyncio
import json
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from relume.base.error_body import error_body
from relume.base.limits import HEAD_BYTES, MIB
from relume.web.http10 import Http10Aware

#: How far a client may fall behind with its request, in seconds, before it is given up.
PATIENCE_S = 30.0
#: A client that sends fewer bytes per second than this falls behind.
SLOWEST_BYTES_S = 500
# Pauses before each look whether a client that stopped sending is still there, in seconds. A quick
# answer needs none; the second look finds what the first one provoked.
_LOOKS_S = (0.03, 0.02, 0.2, 2.0)
_LATER_LOOKS_S = 5.0
# How a client begins that takes HTTP/2 for granted, without an offer (RFC 9113 §3.3 and §3.4).
_HTTP_2 = b"PRI * HTTP/2.0\r\n"
_OFFER = frozenset({b"upgrade", b"http2-settings"})


class HttpProtocol(Http10Aware):
    """uvicorn's `http=` takes this class; it serves one connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # A connection on which nothing was asked yet is as idle as one between two requests.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        self._heard_at = self.loop.time()
        self._clock = self.loop.call_later(PATIENCE_S, self._check)
        self._looks: asyncio.TimerHandle | None = None
        # What has come in of a head that is not complete; None between heads.
        self._head_bytes: int | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clocks()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop_clocks()
        super().handle_websocket_upgrade()

    def _stop_clocks(self) -> None:
        self._clock.cancel()
        if self._looks is not None:
            self._looks.cancel()

    # ---- an offer to upgrade

    def data_received(self, data: bytes) -> None:
        self._heard(len(data))
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    self._measure_head(len(rest))
                    return
                except httptools.HttpParserUpgrade as offer:
                    if self._should_upgrade():
                        self.handle_websocket_upgrade()
                        return
                    rest = rest[offer.args[0] :]
                    self._read_again_without_offer()
        except httptools.HttpParserError:
            if data.startswith(_HTTP_2):
                message = "this port speaks HTTP/1.1, and no HTTP/2: use an HTTP/1.1 client"
                self._refuse(505, message, reason="http-version", retryable=False)
                return
            self.send_400_response("Invalid HTTP request received.")

    def _should_upgrade(self) -> bool:
        """Whether this is the handshake of a WebSocket: RFC 6455 §4.1 asks for GET and HTTP/1.1."""
        is_handshake = (
            self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        )
        return is_handshake and super()._should_upgrade()

    def _is_ignored(self) -> bool:
        """Whether the message at hand offers an upgrade that is not taken."""
        return self.parser.should_upgrade() and not self._should_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def _measure_head(self, size: int) -> None:
        """Refuse a head that grows too large; the bytes of one read count as a whole."""
        if self._head_bytes is None:
            return
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            message = f"the head of the request is larger than {HEAD_BYTES // MIB} MiB"
            self._refuse(431, message, reason="head-too-large", retryable=False)

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        if not self._is_ignored():
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            # There is no request without the offer: this server is no tunnel (RFC 9110 §9.3.6).
            raise ValueError("CONNECT")

    def on_message_complete(self) -> None:
        if not self._is_ignored():
            super().on_message_complete()

    def _read_again_without_offer(self) -> None:
        """Give the head of this message to a new parser, which then reads the body behind it."""
        head = [
            self.parser.get_method(),
            b" ",
            self.url,
            f" HTTP/{self.parser.get_http_version()}\r\n".encode(),
        ]
        for name, value in self.headers:
            if name not in _OFFER:
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn sets it: a request behind one that closes the connection is no fault.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join([*head, b"\r\n"]))

    # ---- a request that does not come in

    def _heard(self, size: int) -> None:
        """Count what was received: the client has caught up as far as these bytes carry it."""
        now = self.loop.time()
        if self._is_reading():
            self._heard_at = min(now, self._heard_at + size / SLOWEST_BYTES_S)
        else:
            self._heard_at = now  # a request begins

    def _is_reading(self) -> bool:
        """Whether the client has to send: a request has begun, and its end has not come."""
        if self.timeout_keep_alive_task is not None or self.pipeline:
            return False
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _check(self) -> None:
        """Give up a client that has fallen behind; else look again when it could have."""
        cycle = self.cycle
        is_answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if not self._is_reading() or is_answered or self.flow.read_paused:
            self._heard_at = self.loop.time()
        left = self._heard_at + PATIENCE_S - self.loop.time()
        if left > 0:
            self._clock = self.loop.call_later(left, self._check)
        elif not self.transport.is_closing():
            # The rest of a request that was answered already gets no second answer.
            if cycle is None or not (cycle.response_complete and cycle.more_body):
                message = (
                    f"the request did not come in within {PATIENCE_S:g} s: send all of it, at "
                    f"{SLOWEST_BYTES_S} bytes a second or more"
                )
                self._refuse(408, message, reason="request-too-slow", retryable=True)
            self.transport.close()

    def _refuse(self, status: int, message: str, *, reason: str, retryable: bool) -> None:
        """Answer a request that has not come in, and close the connection."""
        cycle = self.cycle
        path = "/" if cycle is None or cycle.response_complete else cycle.scope["path"]
        body = error_body(path, status=status, message=message, reason=reason, retryable=retryable)
        content = json.dumps(body).encode()
        answer = [
            STATUS_LINE[status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n\r\n" % len(content),
            content,
        ]
        self.transport.write(b"".join(answer))
        self.transport.close()

    # ---- a client that has stopped sending

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection open for the answer of a request that has come in completely.

        A client that closes everything looks the same at first. It answers whatever is sent to it
        with a reset, so it is sent a `100 Continue`, which every client of HTTP/1.1 has to accept
        before the answer (RFC 9110 §15.2). Where that is not possible, the client counts as gone.
        """
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.response_started or self.scheme == "https":
            return None
        if cycle.scope["http_version"] != "1.1":
            return None
        cycle.keep_alive = False
        self._look_after(chain(_LOOKS_S, repeat(_LATER_LOOKS_S)))
        return True

    def _look_after(self, pauses: Iterator[float]) -> None:
        self._looks = self.loop.call_later(next(pauses), self._look, pauses)

    def _look(self, pauses: Iterator[float]) -> None:
        """Write something harmless until the answer begins; a client that is gone resets it."""
        cycle: Any = self.cycle
        if self.transport.is_closing() or cycle.response_started:
            return
        if not self.pipeline:  # else the answer to an earlier request may be on its way
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._look_after(pauses)
