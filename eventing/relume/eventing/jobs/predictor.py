"""Requests to a predictor: one connection pool, and answers that are read as they come.

A predictor may be a URL of this machine's serving plane, which holds the request while a replica
starts, or any server that speaks the same HTTP. Nothing here has a clock of its own but that for
the connection: the runner ends a request by leaving its block, and the connection is closed, which
is how vLLM is told to stop.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from typing import Protocol, Self

import aiohttp

from relume.base.clock import Clock
from relume.base.errors import RelumeError
from relume.base.limits import HEADER_BYTES, HEADERS, KIB, MIB
from relume.base.vocabulary import COLD_START_HEADER, QUEUE_HEADER
from relume.eventing.jobs.sse import EventParser

_CONNECT_WITHIN_S = 30.0
# Shorter than any server's own (uvicorn's 5 s), so that no request meets a closing connection.
_KEEP_ALIVE_S = 2.0
# Between two tries to connect.
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 8.0
# After `[DONE]` nothing comes but the end of the body.
_END_WITHIN_S = 1.0
# The largest part of a stream: it must fit one message of the store.
_PART_BYTES = 4 * MIB
# The kernel keeps so much of an answer that is not read at once, and then wakes this process.
_MUCH_BYTES = 16 * KIB
_DONE = b"[DONE]"
_EVENT_STREAM = "text/event-stream"
# Refused, unreachable, an unknown name, or silence.
_UNCONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class NoAnswer(RelumeError):
    """The predictor cannot be reached, or its answer broke off."""

    reason = "no-answer"
    retryable = True


class NoConnection(NoAnswer):
    """Nobody takes the connection, or the name is unknown: nothing was asked."""

    reason = "no-connection"


class AnswerTooLarge(RelumeError):
    """The answer has more bytes than are stored."""

    reason = "answer-too-large"


class Pauses(Protocol):
    """When an answer need not be read."""

    def pause_s(self, parts: int, size: int) -> float:
        """For how long, now that so many parts and bytes came; 0: it is read on at once."""
        ...

    async def pause(self, seconds: float) -> None:
        """Return after this time, or sooner where the answer is wanted sooner."""
        ...


class Answer:
    """A predictor's answer whose headers have come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.raw_headers
        ]
        self.content_type = response.headers.get("Content-Type", "application/octet-stream")
        self.retry_after = response.headers.get("Retry-After")
        #: What a cold start took before the predictor could begin, in ms, where somebody says so.
        self.cold_start_ms = _ms(response.headers.get(COLD_START_HEADER)) or 0
        self._queue_ms = _ms(response.headers.get(QUEUE_HEADER))

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def streams(self) -> bool:
        return self.content_type.partition(";")[0].strip().lower() == _EVENT_STREAM

    def began(self, asked: float, now: float) -> float:
        """Return when the predictor began with it; seconds of the clock of the arguments.

        A stream begins when its headers come, which is now. Of an answer that comes as a whole the
        plane says how long the request waited for a replica; where nobody says it, it is now, too.
        """
        if self.streams or self._queue_ms is None:
            return now
        return min(asked + self._queue_ms / 1000, now)

    def on_end(self, told: Callable[[], None]) -> None:
        """Call `told` when all of the answer has come, whether it is read or not."""
        self._response.content.on_eof(told)

    async def parts(self, pauses: Pauses) -> AsyncIterator[Sequence[bytes]]:
        """The data of the server-sent events up to `[DONE]`, those together that came together.

        In a pause this process is woken only by the end of the connection and by much data. Raises
        NoAnswer when the stream ends before its end, EventTooLong.
        """
        parser = EventParser(_PART_BYTES)
        with _refused():
            async for piece in self._response.content.iter_any():
                found = parser.feed(piece)
                if _DONE in found:
                    yield found[: found.index(_DONE)]
                    await self._end()
                    return
                yield found
                if pause_s := pauses.pause_s(len(found), len(piece)):
                    with self._sleeping():
                        await pauses.pause(pause_s)
        raise NoAnswer("the stream ended in the middle of the answer")

    @contextmanager
    def _sleeping(self) -> Iterator[None]:
        """Let the kernel keep what comes while the block runs (socket(7), SO_RCVLOWAT)."""
        connection = self._response.connection
        if connection is None or connection.transport is None:
            yield  # all of the answer has come
            return
        peer = connection.transport.get_extra_info("socket")
        _wake_at(peer, _MUCH_BYTES)
        try:
            yield
        finally:
            # The answer may have ended in the block, and the connection then belongs to the pool:
            # so this is done by the socket.
            _wake_at(peer, 1)  # what has come is read now

    async def _end(self) -> None:
        """Read the end of the body, so that the connection can serve the next request."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_WITHIN_S):
                async for _ in self._response.content.iter_any():
                    pass

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises NoAnswer when it breaks off, AnswerTooLarge."""
        pieces, size = [], 0
        with _refused():
            async for piece in self._response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise AnswerTooLarge(f"the answer is larger than {limit} bytes")
        return b"".join(pieces)

    async def read_some(self, limit: int) -> bytes:
        """The first `limit` bytes of the body, or what came of them before it broke off."""
        pieces, size = [], 0
        try:
            async for piece in self._response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size >= limit:
                    break
        except (aiohttp.ClientError, OSError):
            pass  # it is an error's text: what there is of it is enough
        return b"".join(pieces)[:limit]


class Predictors:
    """One connection pool for all jobs; an asynchronous context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Content-Type", "Accept"),
            headers={"User-Agent": "relume", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN_S),
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=HEADERS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def post(
        self, url: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> AsyncIterator[Answer]:
        """Send a request once; the answer, when its headers have come.

        Leaving the block closes the connection unless the answer was read to its end. Raises
        NoAnswer, and NoConnection where nothing was sent.
        """
        with _refused():
            try:
                response = await self._session.post(
                    url, data=body, headers=list(headers), allow_redirects=False
                )
            except aiohttp.ClientSSLError:
                raise  # no other try would change a certificate
            except _UNCONNECTED as error:
                raise NoConnection(str(error) or "no connection in time") from error
        try:
            yield Answer(response)
        finally:
            response.release()  # aiohttp closes a connection whose answer was not read to its end


@asynccontextmanager
async def once_connected(
    post: Callable[[], AbstractAsyncContextManager[Answer]],
    clock: Clock,
    tell: Callable[[NoConnection], None],
) -> AsyncIterator[tuple[Answer, float]]:
    """The answer to `post`, and when it was asked for, in seconds of `clock.monotonic`.

    `post` is tried again for as long as nobody takes its connection. `tell` gets each such failure
    before the next try. The caller bounds the time. Raises NoAnswer.
    """
    wait_s = _FIRST_WAIT_S
    async with AsyncExitStack() as stack:
        while True:
            asked = clock.monotonic()
            try:
                answer = await stack.enter_async_context(post())
                break
            except NoConnection as error:
                tell(error)
                await clock.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        yield answer, asked


def _ms(told: str | None) -> int | None:
    """The value of a header in milliseconds; None where it is missing or no number."""
    return int(told) if told and told.isascii() and told.isdigit() and len(told) < 16 else None


def _wake_at(peer: socket.socket, size: int) -> None:
    """Wake this process when so many bytes have come."""
    # The connection may be closed, for which uvloop raises ValueError: whoever reads is told.
    with suppress(OSError, ValueError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NoAnswer("no connection in time") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
