"""A client of HTTP/1.1 that posts small bodies often, over connections that are kept for a while.

It stands in the place of aiohttp because a post costs a fifth of the CPU time here, and the post is
the largest part of what an event costs. httptools reads the answers (`answer`), yarl reads URLs,
and aiohappyeyeballs connects. What no delivery of ours needs is missing: redirects are answers, and
there are no cookies, proxies or streams.

Every request gets a reader of its own. One that was written and got no complete answer fails, and
is never sent again from here: whether an event is tried again is for the rules of its delivery.
"""

import asyncio
import base64
import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import aiohappyeyeballs
from yarl import URL

from relume.eventing.delivery.answer import Answer, AnswerReader, BadAnswer, Header, Limit

_TRY_NEXT_ADDRESS_S = 0.25
# What `getaddrinfo` finds.
_Addresses = list[Any]
# Up to this size a body is sent with its head, in one write.
_SMALL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Target:
    """What a URL says of the connection and of the first lines of each request."""

    host: str
    port: int
    tls: bool
    head: str


class Connections:
    """Every connection of one owner. One is used again within `keep_s`; `close` at the end."""

    def __init__(self, *, keep_s: float, connect_within_s: float) -> None:
        self._keep_s = keep_s
        self._connect_within_s = connect_within_s
        self._idle: dict[tuple[str, int, bool], list[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._lookups: dict[tuple[str, int], asyncio.Task[_Addresses]] = {}
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
            if connection.is_reusable and connection.idle_since > oldest and connection.is_quiet:
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
        connection = _Connection(self._open)
        async with asyncio.timeout(self._connect_within_s):
            found = await asyncio.shield(self._looking(target.host, target.port))
            sock = await aiohappyeyeballs.start_connection(
                found, happy_eyeballs_delay=_TRY_NEXT_ADDRESS_S, loop=loop
            )
            try:
                await loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=self._tls if target.tls else None,
                    server_hostname=target.host if target.tls else None,
                )
            except BaseException:
                # The event loop may have made the connection just before this was cancelled.
                connection.abort()
                sock.close()
                raise
        return connection

    def _looking(self, host: str, port: int) -> "asyncio.Task[_Addresses]":
        """Look a host up, once for all who ask at the same time.

        The few threads for lookups are those of every subscriber. Deliveries to one whose name
        server does not answer must not take all of them.
        """

        def end(looking: "asyncio.Task[_Addresses]") -> None:
            del self._lookups[host, port]
            if not looking.cancelled():
                looking.exception()  # nobody may be left whom asyncio could give it to

        if (looking := self._lookups.get((host, port))) is None:
            loop = asyncio.get_running_loop()
            coming = loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            looking = self._lookups[host, port] = asyncio.ensure_future(coming)
            looking.add_done_callback(end)
        return looking


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time; `_reader` and `_asked` belong to that request."""

    def __init__(self, registry: "set[_Connection]") -> None:
        self._registry = registry
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._asked: asyncio.Future[Answer] | None = None
        self._incoming = select.poll()
        self._is_usable = False
        self.idle_since = 0.0

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow: nothing is under way, the last answer was whole."""
        return self._is_usable and self._reader is None

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come in that the event loop has not read yet.

        It would be the end of the connection, or something that nobody asked for. A request that is
        sent then would be lost, or would get an answer that is not its own.
        """
        return not self._incoming.poll(0)

    def exchange(self, head: bytes, body: bytes, limit: Limit) -> "asyncio.Future[Answer]":
        """Send a request; the future of its answer."""
        if self._transport is None or self._reader is not None:
            raise RuntimeError("a connection takes one request at a time")
        self._reader = AnswerReader(limit)
        self._asked = asyncio.get_running_loop().create_future()
        if len(body) <= _SMALL_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return self._asked

    def abort(self) -> None:
        self._is_usable = False
        self._registry.discard(self)
        if self._transport is not None:
            self._transport.abort()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._incoming.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._registry.add(self)
        self._is_usable = True

    def data_received(self, data: bytes) -> None:
        if self._reader is None:  # nobody has asked for this
            return self.abort()
        try:
            self._reader.feed(data)
            if self._reader.is_over:
                self._answer(self._reader)
        except BadAnswer as error:
            self._fail(error)

    def eof_received(self) -> None:
        self._is_usable = False
        if self._reader is None:
            return
        try:
            self._reader.end()
            self._answer(self._reader)
        except BadAnswer as error:
            self._fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_usable = False
        self._registry.discard(self)
        why = f": {error}" if error else ""
        self._fail(BadAnswer(f"the subscriber closed the connection{why}"))

    def _answer(self, reader: AnswerReader) -> None:
        """Give the answer to who asked. Raises BadAnswer."""
        answer = reader.answer
        # A subscriber that did not wait for the whole request may read the rest as another one.
        waits = self._transport is not None and self._transport.get_write_buffer_size() > 0
        self._is_usable = self._is_usable and reader.may_go_on and not waits
        asked, self._asked, self._reader = self._asked, None, None
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def _fail(self, error: BadAnswer) -> None:
        self._is_usable = False
        asked, self._asked, self._reader = self._asked, None, None
        if asked is not None and not asked.done():
            asked.set_exception(error)


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
