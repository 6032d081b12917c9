"""HTTP/1.1 on every port of ours: uvicorn's own protocol, with what RFC 9110 and 9112 also ask for.

uvicorn reads requests with httptools, which is fast, and has gaps. Some lose a request or its
answer, one costs memory, and one gives clients of HTTP/1.0 what they cannot read (`exchange`):

- An `Upgrade` that the server does not take has to be ignored (RFC 9110 §7.8). httptools ends the
  message behind the head instead, so the body is lost, or is read as the next request. Here such a
  request is read again without its offer. WebSockets are taken as before.
- A request that stops in the middle is held for ever. Here it is answered with 408.
- A client that has sent its request and closes only its sending side gets no answer. Here it does.
- The head of a request may grow without a bound, and so may its trailers. Here they are refused
  with 431 (RFC 6585 §5), and trailers are thrown away: they are no headers (RFC 9110 §6.5.1).
- Of requests in a row only the last one hears that its client is gone, and what cannot be read
  behind a request takes the place of its answer. Here every request is answered, and the one that
  runs hears it, unless reading is paused for one behind it. No handshake of a WebSocket is taken
  behind it, and what fails behind an answer does not end the connection.
"""

import asyncio
import json
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, service_unavailable
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from relume.base.error_body import error_body
from relume.base.limits import HEAD_BYTES, MIB
from relume.web.exchange import Exchange

#: How far a client may fall behind with its request, in seconds, before it is given up.
PATIENCE_S = 30.0
#: A client that sends fewer bytes per second than this falls behind.
SLOWEST_BYTES_S = 500
# After an early answer, what the client still sends is thrown away for so long.
_LINGER_S = 2.0
# Pauses before each look whether a client that stopped sending is still there, in seconds. A quick
# answer needs none; the second look finds what the first one provoked.
_LOOKS_S = (0.03, 0.02, 0.2, 2.0)
_LATER_LOOKS_S = 5.0
# How a client begins that takes HTTP/2 for granted, without an offer (RFC 9113 §3.3 and §3.4).
_HTTP_2 = b"PRI * HTTP/2.0\r\n"
_OFFER = frozenset({b"upgrade", b"http2-settings"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's `http=` takes this class; it serves one connection."""

    cycle: Exchange | None  # type: ignore[assignment]  # the one that came in last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        # A connection on which nothing was asked yet is as idle as one between two requests.
        self._idle_since: float | None = self._heard_at
        # Often enough to see the end of either patience in time.
        self._look_every_s = max(0.05, min(PATIENCE_S, self.timeout_keep_alive))
        self._clock = self.loop.call_later(self._look_every_s, self._check)
        self._looks: asyncio.TimerHandle | None = None
        # The request that the application answers now; those behind it are in uvicorn's `pipeline`.
        self._running: Exchange | None = None
        # Bytes of a head, of the size of a chunk, or of trailers that have no end yet.
        self._overhead = 0
        self._is_inside = self._is_in_head = self._advanced = False
        # Nothing is read any more: the connection ends with the answers to what was read before.
        self._is_deaf = self._lingers = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clocks()
        self.connections.discard(self)
        if self._running is not None:
            self._running.leave()
        self.pipeline.clear()  # what was not begun yet will not be
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]  # as uvicorn leaves it

    def handle_websocket_upgrade(self) -> None:
        self._stop_clocks()
        super().handle_websocket_upgrade()

    def _stop_clocks(self) -> None:
        self._clock.cancel()
        if self._looks is not None:
            self._looks.cancel()

    # ---- an offer to upgrade

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._heard(len(data))
        self._idle_since = None
        rest = memoryview(data)
        try:
            while True:
                try:
                    self._feed(rest)
                    break
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
            elif self._may_refuse():
                self.send_400_response("Invalid HTTP request received.")
            return
        cycle = self.cycle
        if cycle is not None and cycle.response_complete and not self._is_inside:
            # The rest of a request that was answered early, or an empty line behind one.
            self._idle_since = self.loop.time()

    def _should_upgrade(self) -> bool:
        """Whether this is the handshake of a WebSocket: RFC 6455 §4.1 asks for GET and HTTP/1.1.

        It is none behind a request that is not answered yet, whose answer would get into it.
        """
        parser, before = self.parser, self.cycle
        is_handshake = parser.get_method() == b"GET" and parser.get_http_version() == "1.1"
        is_first = before is None or before.response_complete
        return is_handshake and is_first and super()._should_upgrade()

    def _feed(self, data: memoryview) -> None:
        """Let the parser read; refuse what grows without a bound. A read counts as a whole."""
        self._advanced = False
        self.parser.feed_data(data)
        if self._advanced or not self._is_inside:
            self._overhead = 0
            return
        self._overhead += len(data)
        if self._overhead > HEAD_BYTES:
            message = f"the head or the trailers are larger than {HEAD_BYTES // MIB} MiB"
            self._refuse(431, message, reason="head-too-large", retryable=False)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_inside = self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # a trailer
        name = name.lower()
        if name == b"host" and any(known == name for known, _ in self.headers):
            raise ValueError("two Host headers")  # RFC 9112 §3.2
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head, self._advanced = False, True
        if not self.parser.should_upgrade():
            self._begin()
        elif self._should_upgrade():
            super().on_headers_complete()
        elif self.parser.get_method() == b"CONNECT":
            # There is no request without the offer: this server is no tunnel (RFC 9110 §9.3.6).
            raise ValueError("CONNECT")

    def _begin(self) -> None:
        """Start the application on a request, or queue it behind one that is not answered yet."""
        parser, scope, before = self.parser, self.scope, self.cycle
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        if url.host:  # an absolute URL names the host itself (RFC 9112 §3.2.2)
            port = b"" if url.port is None else b":%d" % url.port
            others = [header for header in self.headers if header[0] != b"host"]
            self.headers[:] = [(b"host", url.host + port), *others]
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version = parser.get_http_version()
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        keep_alive = version != "1.0" and parser.should_keep_alive()
        exchange: Any = Exchange(self, scope, keep_alive=keep_alive)  # has what uvicorn asks of it
        self.cycle = exchange
        most = self.limit_concurrency
        is_full = most is not None and max(len(self.connections), len(self.tasks)) >= most
        app = service_unavailable if is_full else self.app
        if before is None or before.response_complete:
            self._start(exchange, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, app))

    def _start(self, exchange: Any, app: Any) -> None:
        """Let the application answer, in a task that uvicorn waits for when it stops."""
        self._running = exchange
        task = self.loop.create_task(exchange.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.parser.should_upgrade():
            return
        cycle.take(body)
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._is_inside = False
        cycle = self.cycle
        if cycle is not None and not self.parser.should_upgrade():
            cycle.end()

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
        if self._idle_since is not None or self.pipeline:
            return False
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def on_response_complete(self) -> None:
        """Begin with the request that came meanwhile, or be idle; `_check` ends that some time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._lingers:
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()

    def _check(self) -> None:
        """Give up a client that is idle or has fallen behind; else look again when it could be.

        One timer for a connection: a request sets none.
        """
        cycle = self.cycle
        if self._idle_since is not None:
            self._heard_at = self.loop.time()
            idle_s = self._heard_at - self._idle_since
            if (left := self.timeout_keep_alive - idle_s) > 0:
                self._check_in(left)
            else:
                self.timeout_keep_alive_handler()
            return
        is_answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if not self._is_reading() or is_answered or self.flow.read_paused:
            self._heard_at = self.loop.time()
        left = self._heard_at + PATIENCE_S - self.loop.time()
        if left > 0:
            self._check_in(left)
        elif not self.transport.is_closing():
            message = (
                f"the request did not come in within {PATIENCE_S:g} s: send all of it, at "
                f"{SLOWEST_BYTES_S} bytes a second or more"
            )
            self._refuse(408, message, reason="request-too-slow", retryable=True)

    def _check_in(self, seconds: float) -> None:
        self._clock = self.loop.call_later(min(seconds, self._look_every_s), self._check)

    def _may_refuse(self) -> bool:
        """Whether what cannot be read is answered now; else the connection ends without that.

        An answer that has begun gets no second one into it, and requests before it are answered.
        """
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # the one that cannot be read, which was never begun
            before: Any = self.pipeline[0][0] if self.pipeline else self._running
            self.cycle = before
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            return True
        if cycle.more_body:
            if not cycle.response_started:
                return True
            self.transport.close()
        else:
            cycle.keep_alive = False
            self._is_deaf = True
        return False

    def _refuse(self, status: int, message: str, *, reason: str, retryable: bool) -> None:
        """Answer a request that has not come in, and close the connection."""
        if not self._may_refuse():
            return
        cycle = self.cycle
        path = "/" if cycle is None or cycle.response_complete else cycle.scope["path"]
        body = error_body(path, status=status, message=message, reason=reason, retryable=retryable)
        self._send_refusal(status, b"application/json", json.dumps(body).encode())

    def send_400_response(self, msg: str) -> None:
        """As uvicorn, but a client that still sends can read it."""
        self._send_refusal(400, b"text/plain; charset=utf-8", msg.encode("ascii"))

    def _send_refusal(self, status: int, kind: bytes, content: bytes) -> None:
        head = b"content-type: %b\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % (kind, len(content)) + content)
        if self._running is not None:
            self._running.leave()
        self.linger()

    def linger(self) -> None:
        """Close the connection so that a client that still sends can read its answer.

        Bytes that nobody has read when a connection is closed reset it, and a reset takes the
        answer along (RFC 9112 §9.6). So only the sending side is closed, and for a while what comes
        is thrown away; a client that closes its side ends that.
        """
        self._is_deaf = self._lingers = True
        self._stop_clocks()
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._clock = self.loop.call_later(_LINGER_S, self.transport.close)

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
