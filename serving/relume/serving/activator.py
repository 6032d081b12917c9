"""The plane as an ASGI application; one HTTP request is routed, held, forwarded and answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.serving.addresses import ROUTED_TO, header, raw_path_of
from relume.serving.body import RequestBody
from relume.serving.errors import PlaneStopping, RequestTimedOut, ServingError
from relume.serving.heartbeat import HeartbeatWriter, wish_of
from relume.serving.holding import HeldRequest
from relume.serving.proxy import ResponseWriter, Truncated, forward
from relume.serving.read_ahead import ReadAhead
from relume.serving.routing import Router
from relume.serving.timeouts import Cut
from relume.serving.websocket import tunnel


class Activator:
    """Answers 503 until it is opened and after it is closed.

    An object, not a method: uvicorn takes a bound method for an ASGI 2 application.
    """

    def __init__(self, clock: Clock, high_water: int) -> None:
        """high_water: how many bytes of a held request's body are read ahead."""
        self._clock = clock
        self._ahead = ReadAhead(high_water)
        self._open: tuple[Router, aiohttp.ClientSession] | None = None

    def open(self, router: Router, session: aiohttp.ClientSession) -> None:
        """Begin to serve."""
        self._open = (router, session)

    def close(self) -> None:
        """Refuse from here on."""
        self._open = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
        if self._open is None:
            return await PlaneStopping("serving is not running").answer(scope, receive, send)
        if raw_path_of(scope) == b"*":  # it asks about this server itself (RFC 9110 §9.3.7)
            return await Response(headers={"content-length": "0"})(scope, receive, send)
        router, session = self._open
        if scope["type"] == "websocket":
            return await self._websocket(router, session, scope, receive, send)
        listed = router.models.answer(scope["method"], raw_path_of(scope))
        if listed is not None and router.named_by_host(scope) is None:
            return await listed(scope, receive, send)
        with self._ahead.share() as high_water:
            await self._exchange(high_water, router, session, scope, receive, send)

    async def _websocket(
        self,
        router: Router,
        session: aiohttp.ClientSession,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            named = router.by_head(scope)
        except ServingError as error:
            await error.answer(scope, receive, send)
        else:
            assert named is not None, "a handshake has no body"
            await tunnel(*named, session, self._clock, scope, receive, send)

    async def _exchange(
        self,
        high_water: int,
        router: Router,
        session: aiohttp.ClientSession,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer the request, or let it go with its client."""
        held = HeldRequest(self._clock)
        body = RequestBody(receive, high_water, held.disconnect)
        writer = ResponseWriter(send, held)
        try:
            named = router.by_head(scope)  # what is refused by it is not read
            async with _pumping(body):
                with held.cutoff:
                    service, path = named or await router.by_body(scope, body)
                    scope.setdefault("state", {})[ROUTED_TO] = service.key
                    if wish := wish_of(scope, path, service.waiting):
                        writer = heartbeats = HeartbeatWriter(
                            send, held, service, wish, path, body, self._clock
                        )
                        held.on_wait = heartbeats.waits
                    event_id = header(scope, b"ce-id")
                    while not writer.finished:
                        async with held.replica(service, service.timeouts, event_id) as lease:
                            await forward(session, scope, lease, path, body, writer)
            if held.close() is Cut.TIMED_OUT:
                # A 504, or as Knative does in the middle of a stream, the text at its end (A2, A5).
                await writer.fail(RequestTimedOut(), scope, receive)
        except ServingError as error:
            await writer.fail(error, scope, receive)
        except Truncated:
            pass  # the server closes the connection: the client must not take it for complete
        finally:
            await writer.close()


@asynccontextmanager
async def _pumping(body: RequestBody) -> AsyncIterator[None]:
    """Read the request's body while the block runs."""
    pump = asyncio.create_task(body.pump())
    await asyncio.sleep(0)  # what has arrived with the headers is taken at once
    try:
        yield
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
