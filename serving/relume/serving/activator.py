"""One HTTP request through the plane: routed, held, forwarded, answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from relume.base.clock import Clock
from relume.serving.asgi import RawHeaders, Receive, Scope, Send, header, respond
from relume.serving.body import RequestBody
from relume.serving.cutoff import Cut, Cutoff
from relume.serving.errors import RequestTimedOut, ServingError
from relume.serving.proxy import (
    Forwarded,
    Truncated,
    Writer,
    forward,
    forwarded_headers,
    upstream_url,
)
from relume.serving.router import Router, Target
from relume.serving.service import Lease, Service
from relume.serving.timeouts import Watch


class Answer(Writer):
    """The response, watched: its clocks are fed and its first byte is timed."""

    def __init__(self, send: Send, clock: Clock) -> None:
        super().__init__(send)
        self._clock = clock
        self.watch: Watch | None = None
        self.lease: Lease | None = None
        self._status = 0

    async def start(self, status: int, headers: RawHeaders) -> None:
        self._status = status
        self._wrote()
        await super().start(status, headers)

    async def write(self, chunk: bytes) -> None:
        self._wrote()
        if self.lease is not None and self._status < 400:
            since_granted = self._clock.monotonic() - self.lease.granted_at
            self.lease.replica.answered(since_granted * 1000)
            self.lease = None
        await super().write(chunk)

    def _wrote(self) -> None:
        if self.watch is not None:
            self.watch.wrote()


class Exchange:
    """Everything about one request that outlives a single step of it."""

    def __init__(self, router: Router, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._router = router
        self._session = session
        self._clock = clock
        self._cutoff = Cutoff()
        self._service: Service | None = None

    async def run(self, scope: Scope, receive: Receive, send: Send, high_water: int) -> None:
        """Answer the request, or let it go with its client."""
        body = RequestBody(receive, high_water, lambda: self._cutoff.trip(Cut.DISCONNECTED))
        answer = Answer(send, self._clock)
        try:
            async with _pumping(body):
                with self._cutoff:
                    await self._serve(scope, body, answer)
        except ServingError as error:
            await respond(send, error.status, error.headers, error.body)
            return
        except Truncated:
            return  # the server closes the connection: the client must not take it for complete
        if self._cutoff.cut is Cut.DISCONNECTED and self._service is not None:
            self._service.client_left()
        elif self._cutoff.cut is Cut.TIMED_OUT:
            await _time_out(answer, send)

    async def _serve(self, scope: Scope, body: RequestBody, answer: Answer) -> None:
        target = await self._router.route(scope, body)
        self._service = service = target.service
        with service.request():
            answer.watch = Watch(service.timeouts, self._clock, self._cutoff)
            try:
                lease = await service.acquire(header(scope["headers"], b"ce-id"))
                try:
                    answer.lease = lease
                    await forward(self._session, _forwarded(scope, target, lease), body, answer)
                finally:
                    service.release(lease)
            finally:
                answer.watch.cancel()


def _forwarded(scope: Scope, target: Target, lease: Lease) -> Forwarded:
    headers = forwarded_headers(scope["headers"], lease.headers)
    if target.rewritten is not None:
        headers["content-length"] = str(target.rewritten)
    return Forwarded(
        scope["method"], upstream_url(lease.backend.base_url, scope, target.raw_path), headers
    )


async def _time_out(answer: Answer, send: Send) -> None:
    """Say so: as a 504, or as Knative does in the middle of a stream, at its end (A2, A5)."""
    error = RequestTimedOut()
    if not answer.started:
        await respond(send, error.status, error.headers, error.body)
    elif not answer.sized and not answer.finished:
        await answer.finish(error.body)


@asynccontextmanager
async def _pumping(body: RequestBody) -> AsyncIterator[None]:
    """Read the request beside the block."""
    pump = asyncio.create_task(body.pump())
    await asyncio.sleep(0)  # what has arrived with the headers is taken at once
    try:
        yield
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
