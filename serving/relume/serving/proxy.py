"""One HTTP exchange with a predictor: bytes in, bytes out, as they come.

Nothing is gathered on the way back: what the predictor writes is sent on in the same turn of the
event loop, so server-sent events arrive unbuffered (checklist A13). A request that may have an
effect is never sent twice.
"""

import aiohttp
from starlette.types import Receive, Scope, Send

from relume.base.prefixes import RawHeaders
from relume.base.vocabulary import NOT_BEGUN_HEADER
from relume.serving.body import RequestBody
from relume.serving.errors import PredictorUnreachable, ServingError
from relume.serving.holding import HeldRequest, Lease
from relume.serving.upstream import forwarded_headers, is_unsent, returned_headers, upstream_url


class Truncated(Exception):
    """The predictor broke off in the middle of its answer."""


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
    whole = await body.ahead() if "content-length" in headers else body.whole()  # to send it again
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
                lease.backend.begins_none(why)
                if whole is not None:
                    return
            if not 200 <= response.status <= 999:
                raise PredictorUnreachable(f"status {response.status} is no answer to a request")
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
