"""A client of HTTP/1.1 that posts small bodies often, over connections that are kept for a while.

A post costs a fifth of what it costs with a client for all purposes. What no delivery of ours needs
is missing: redirects are answers, and there are no cookies, proxies or streams.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import aiohappyeyeballs
import httptools
from yarl import URL

from relume.base.limits import HEAD_BYTES, HEADER_BYTES, HEADERS
from relume.web.codings import BrokenCoding, Decoder, UnsupportedCoding, coding_of

Header = tuple[str, str]

_TRY_NEXT_ADDRESS_S = 0.25
# Up to this size a body is sent with its head, in one write.
_SMALL_BYTES = 64 * 1024
_SWITCHING = 101


class BadAnswer(ConnectionError):
    """What came back is no complete answer of HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers as latin-1 text, and the body, of which the rest may be left out."""

    status: int
    headers: list[Header]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """What a URL says of the connection and of the first lines of each request."""

    host: str
    port: int
    tls: bool
    head: str


# How many bytes are read of the body of an answer with this status; one more is given.
Limit = Callable[[int], int]


class Connections:
    """Every connection of one owner. One is used again within `keep_s`; `close` at the end."""

    def __init__(self, *, keep_s: float, connect_within_s: float) -> None:
        self._keep_s = keep_s
        self._connect_within_s = connect_within_s
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._closing: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: str, headers: Sequence[Header], body: bytes, limit: Limit) -> Answer:
        """Post once. Raises OSError, BadAnswer among them, TimeoutError and ValueError.

        Cancelled or failed, it closes its connection.
        """
        target = _target(url)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        if not len(headers) == lines.count("\r\n") == lines.count("\r") == lines.count("\n"):
            raise ValueError("a header has more than one line")
        head = f"{target.head}{lines}content-length: {len(body)}\r\n\r\n".encode()
        connection = self._kept(target) or await self._connect(target)
        try:
            answer = await connection.exchange(head, body, limit)
        except BaseException:
            connection.abort()
            raise
        if connection.is_reusable:
            self._keep(target, connection)
        else:
            connection.abort()
        return answer

    def close(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()

    def _kept(self, target: _Target) -> "_Connection | None":
        """The connection to a target that was used last, if there is one."""
        kept = self._idle.get((target.host, target.port, target.tls))
        oldest = asyncio.get_running_loop().time() - self._keep_s
        while kept:
            connection = kept.pop()
            if connection.is_reusable and connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    def _keep(self, target: _Target, connection: "_Connection") -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault((target.host, target.port, target.tls), []).append(connection)
        if self._closing is None:
            self._closing = loop.call_later(self._keep_s, self._close_idle)

    def _close_idle(self) -> None:
        """Close what was not used for a while; look again later where others are kept."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keep_s
        for place, kept in list(self._idle.items()):
            fresh = [each for each in kept if each.is_reusable and each.idle_since > oldest]
            for connection in set(kept).difference(fresh):
                connection.abort()
            if fresh:
                self._idle[place] = fresh
            else:
                del self._idle[place]
        later = loop.call_later(self._keep_s, self._close_idle) if self._idle else None
        self._closing = later

    async def _connect(self, target: _Target) -> "_Connection":
        loop = asyncio.get_running_loop()
        if target.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        async with asyncio.timeout(self._connect_within_s):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            sock = await aiohappyeyeballs.start_connection(
                found, happy_eyeballs_delay=_TRY_NEXT_ADDRESS_S, loop=loop
            )
            _, connection = await loop.create_connection(
                lambda: _Connection(loop, self._open),
                sock=sock,
                ssl=self._tls if target.tls else None,
                server_hostname=target.host if target.tls else None,
            )
        return connection


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, registry: "set[_Connection]") -> None:
        self._loop = loop
        self._registry = registry
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        # What common clients forgive a server as well.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._answer: asyncio.Future[Answer] | None = None
        self._limit: Limit
        self._status = 0
        self._headers: list[Header] = []
        self._head_bytes: int | None = None  # what has come of a head; None: no head comes in now
        self._parts: list[bytes] = []
        self._size = 0
        self.is_reusable = True
        self.idle_since = 0.0

    def exchange(self, head: bytes, body: bytes, limit: Limit) -> "asyncio.Future[Answer]":
        """Send a request; the future of its answer."""
        self._limit = limit
        self._answer = self._loop.create_future()
        if len(body) <= _SMALL_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return self._answer

    def abort(self) -> None:
        self.is_reusable = False
        self._transport.abort()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._registry.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody has asked for this
            return self.abort()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the answer is complete with its head
        except httptools.HttpParserError as error:
            # What our own callbacks raise stands behind httptools' words.
            self._fail(str(error.__context__ or error) or type(error).__name__)
        else:
            if self._head_bytes is not None:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._fail(f"the head of the answer is larger than {HEAD_BYTES} bytes")

    def eof_received(self) -> None:
        if self._status and self._ends_with_connection():
            self._complete()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_reusable = False
        self._registry.discard(self)
        self._fail(f"the subscriber closed the connection{f': {error}' if error else ''}")

    # ---- called by the parser

    def on_message_begin(self) -> None:
        if self._answer is None:
            self.is_reusable = False  # a second answer to one request
        self._status, self._headers, self._head_bytes = 0, [], 0
        self._parts, self._size = [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) > HEADER_BYTES or len(self._headers) >= HEADERS:
            raise BadAnswer(f"more headers than {HEADERS}, or one above {HEADER_BYTES} bytes")
        if b"\0" in value:
            raise BadAnswer("a header with a NUL")
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._status, self._head_bytes = self._parser.get_status_code(), None
        if self._status == _SWITCHING:
            self._complete()

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit(self._status):
            self._complete()

    def on_message_complete(self) -> None:
        if self._status >= 200:  # else it is an interim answer, and the final one follows
            self._complete(whole=True)

    def _ends_with_connection(self) -> bool:
        """Whether the body ends where the connection does (RFC 9112 §6.3)."""
        told = {name.lower(): value.lower() for name, value in self._headers}
        chunked = told.get("transfer-encoding", "").rpartition(",")[2].strip() == "chunked"
        return "content-length" not in told and not chunked

    def _complete(self, *, whole: bool = False) -> None:
        """Give the answer to who asked; the connection is used again only after a whole one."""
        if not whole or not self._parser.should_keep_alive():
            self.is_reusable = False
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if self._transport.get_write_buffer_size():
            self.is_reusable = False  # it did not wait for the whole request
        if not answer.done():
            try:
                answer.set_result(Answer(self._status, self._headers, self._body()))
            except BrokenCoding as error:
                answer.set_exception(BadAnswer(str(error)))

    def _body(self) -> bytes:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        coded = [value for name, value in self._headers if name.lower() == "content-encoding"]
        return decoded(body, ", ".join(coded), self._limit(self._status)) if coded else body

    def _fail(self, words: str) -> None:
        self.is_reusable = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(BadAnswer(words))


def decoded(body: bytes, field: str, limit: int) -> bytes:
    """A body without the coding that was not asked for; not much more of it than `limit`.

    What has a coding that is not known here stays as it is. Raises BrokenCoding.
    """
    try:
        coding = coding_of(field)
    except UnsupportedCoding:
        return body
    if coding is None or not body:
        return body
    decoder, parts, size = Decoder(coding), list[bytes](), 0
    for piece in decoder.feed(body):
        parts.append(piece)
        size += len(piece)
        if size > limit:
            return b"".join(parts)
    return b"".join((*parts, decoder.end()))


@lru_cache(maxsize=1024)
def _target(text: str) -> _Target:
    """Raises ValueError for what is no URL of HTTP."""
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.raw_host or url.port is None:
        raise ValueError(f"{text}: is no URL of HTTP")
    host = f"[{url.raw_host}]" if ":" in url.raw_host else url.raw_host
    where = host if url.is_default_port() else f"{host}:{url.port}"
    head = f"POST {url.raw_path_qs} HTTP/1.1\r\nhost: {where}\r\n"
    if url.user is not None or url.password is not None:
        words = f"{url.user or ''}:{url.password or ''}".encode("latin-1")
        head += f"authorization: Basic {base64.b64encode(words).decode()}\r\n"
    head += "user-agent: relume\r\naccept-encoding: identity\r\n"
    return _Target(url.raw_host, url.port, url.scheme == "https", head)
