"""Posting an event to a subscriber, and what came back (checklist B3 and B5).

Binary content mode, so the data travels untouched. Redirects are not followed: a 3xx is a failure
by contract. No error leaves this module; each is an Outcome.
"""

from types import TracebackType
from typing import Self

import aiohttp

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode, decode, encode, mode_of
from relume.eventing.delivery.decision import Answered, Outcome, Unanswered
from relume.eventing.envelope import Envelope

_CONNECT_WITHIN_S = 30.0
# Shorter than any server's own (uvicorn's 5 s), so that no request meets a closing connection.
_KEEP_ALIVE_S = 2.0
_ERROR_BODY_BYTES = 64 * 1024
_HEADER_BYTES = 64 * 1024  # an attribute of a reply may be long; aiohttp's own bound is 8 KiB


class Subscribers:
    """One connection pool for all deliveries; an asynchronous context manager."""

    def __init__(self, max_reply_bytes: int) -> None:
        self._max_reply_bytes = max_reply_bytes
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            # An event without a content type must not get one on the way.
            skip_auto_headers=("Content-Type", "Accept"),
            headers={"User-Agent": "relume", "Accept-Encoding": "identity"},
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def post(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        """Deliver once. `timeout_s` bounds the whole exchange; None waits for the subscriber."""
        headers, body = encode(envelope.event, Mode.BINARY)
        headers += envelope.headers.items()
        headers += [("Prefer", "reply"), ("Kn-Namespace", namespace)]
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=_CONNECT_WITHIN_S)
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return await self._outcome(response)
        except TimeoutError:
            return Unanswered("no answer in time", timed_out=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Unanswered(str(error) or type(error).__name__)

    async def _outcome(self, response: aiohttp.ClientResponse) -> Answered:
        status = response.status
        success = 200 <= status < 300
        limit = self._max_reply_bytes if success else _ERROR_BODY_BYTES
        body, complete = await _read(response.content, limit)
        if not success:
            return Answered(status, body=body, retry_after=response.headers.get("Retry-After"))
        if not complete:
            return Answered(status, malformed=f"the reply is larger than {limit} bytes")
        try:
            return Answered(status, reply=_reply(tuple(response.headers.items()), body))
        except InvalidEvent as error:
            return Answered(status, malformed=f"the reply is no event: {error}")


async def _read(content: aiohttp.StreamReader, limit: int) -> tuple[bytes, bool]:
    """Up to `limit` bytes, and whether that is all."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            return b"".join(chunks)[:limit], False
    return b"".join(chunks), True


def _reply(headers: tuple[tuple[str, str], ...], body: bytes) -> CloudEvent | None:
    """The event in a successful answer, None for an empty one. Raises InvalidEvent."""
    mode = mode_of(headers)
    if mode is None and not body:
        return None
    if mode is Mode.BATCH:
        raise InvalidEvent("a batch was not asked for")
    return decode(headers, body).event
