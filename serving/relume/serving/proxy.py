"""One HTTP exchange with a predictor: bytes in, bytes out, as they come.

Nothing is gathered on the way back: what the predictor writes is sent on in the same turn of the
event loop, so server-sent events arrive unbuffered (checklist A13). A request that may have an
effect is never sent twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from relume.serving.asgi import RawHeaders, Scope, Send
from relume.serving.body import RequestBody
from relume.serving.errors import PredictorUnreachable

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
NOT_FORWARDED = HOP_BY_HOP | {
    b"expect",
    b"knative-serving-namespace",
    b"knative-serving-revision",
}
# The server in front of the plane writes its own.
NOT_RETURNED = HOP_BY_HOP | {b"date", b"server"}
NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)


class Truncated(Exception):
    """The predictor broke off in the middle of its answer."""


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What is sent to the predictor."""

    method: str
    url: URL
    headers: CIMultiDict[str]


class Writer:
    """The response to the client, and what is known about it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.finished = False
        self.sized = False
        """The response announced a Content-Length."""

    async def start(self, status: int, headers: RawHeaders) -> None:
        """Send status and headers."""
        self.started = True
        self.sized = any(name.lower() == b"content-length" for name, _ in headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, chunk: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes = b"") -> None:
        """Send the end of the body."""
        self.finished = True
        await self._send({"type": "http.response.body", "body": chunk})


class Sink(Protocol):
    """Where an answer goes: Writer, or something around it that watches."""

    async def start(self, status: int, headers: RawHeaders) -> None: ...
    async def write(self, chunk: bytes) -> None: ...
    async def finish(self, chunk: bytes = b"") -> None: ...


def client_session(keepalive_s: float) -> aiohttp.ClientSession:
    """Return the session that all requests to predictors share; it changes nothing in passing."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keepalive_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        timeout=NO_TIMEOUT,
        max_line_size=65536,
        max_field_size=65536,
    )


def forwarded_headers(
    headers: Iterable[tuple[bytes, bytes]], extra: Mapping[str, str]
) -> CIMultiDict[str]:
    """Return a request's headers for the predictor: ours added, theirs of our names taken off."""
    result: CIMultiDict[str] = CIMultiDict()
    for raw, value in headers:
        name = raw.lower()
        if name not in NOT_FORWARDED and not name.startswith(b"relume-"):
            result.add(raw.decode("latin-1"), _text(value))
    result.update(extra)
    return result


def upstream_url(base_url: str, scope: Scope, raw_path: bytes) -> URL:
    """Return the predictor's address for a path that is still percent-encoded."""
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    return URL(base_url + _text(raw_path + query), encoded=True)


def _text(raw: bytes) -> str:
    """Decode so that the client library, which writes UTF-8, restores the same bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


async def forward(
    session: aiohttp.ClientSession, request: Forwarded, body: RequestBody, sink: Sink
) -> None:
    """Send the request and pass the answer on.

    Raises PredictorUnreachable when there is no answer, Truncated when it breaks off. Cancelled, it
    closes the connection, and so cancels the request in the predictor.
    """
    started = False
    whole = body.whole()
    try:
        async with session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=body.chunks() if whole is None else whole or None,
            allow_redirects=False,
        ) as response:
            headers = [(k.lower(), v) for k, v in response.raw_headers]
            started = True
            await sink.start(response.status, [h for h in headers if h[0] not in NOT_RETURNED])
            async for chunk in response.content.iter_any():
                await sink.write(chunk)
        await sink.finish()
    except (aiohttp.ClientError, OSError) as error:
        if started:
            raise Truncated(str(error)) from error
        raise PredictorUnreachable(f"the predictor gave no answer: {error}") from error
