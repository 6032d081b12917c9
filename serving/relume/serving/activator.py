"""The plane as an ASGI application; one HTTP request is routed, held, forwarded and answered."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import aiohttp
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.serving.addresses import ROUTED_TO, by_host, by_path, header, raw_path_of
from relume.serving.errors import PlaneStopping, RequestTimedOut, ServiceUnknown, ServingError
from relume.serving.holding import HeldRequest
from relume.serving.openai import ModelNames, openai_path
from relume.serving.proxy import RequestBody, ResponseWriter, Truncated, forward
from relume.serving.read_ahead import ReadAhead
from relume.serving.service import Service, ServiceKey
from relume.serving.timeouts import Cut
from relume.serving.websocket import tunnel


class Router:
    """Knows every service of the plane."""

    def __init__(self, services: Sequence[Service], body_limit: int) -> None:
        """body_limit: the largest body, in bytes, in which a model's name is looked for."""
        self._services: Mapping[ServiceKey, Service] = {s.key: s for s in services}
        self._body_limit = body_limit
        self.models = ModelNames([(s.key, s.config.args) for s in services if s.config.is_model])

    def named_by_host(self, scope: Scope) -> ServiceKey | None:
        """Return the service that the Host header names."""
        return by_host(header(scope, b"host") or "", self._services)

    async def route(self, scope: Scope, body: RequestBody | None) -> tuple[Service, bytes]:
        """Return the service that a request is for, and the path there, still percent-encoded.

        `body` is None for a WebSocket's handshake. Raises ServiceUnknown, and on /openai/v1
        BadRequest and ModelUnknown.
        """
        raw_path = raw_path_of(scope)
        key = self.named_by_host(scope)
        if key is not None:
            return self._services[key], raw_path
        if (found := by_path(raw_path)) is not None:
            if (service := self._services.get(found[0])) is None:
                raise ServiceUnknown(f"no InferenceService {found[0]} on this plane")
            return service, found[1]
        path = openai_path(raw_path)
        if path is None:
            raise ServiceUnknown("no InferenceService of this plane has this address")
        model = await self.models.named_by(scope, body, self._body_limit)
        return self._services[model.service], path


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
            await _lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
        if self._open is None:
            await PlaneStopping("the serving plane is not running").answer(scope, receive, send)
            return
        router, session = self._open
        if scope["type"] == "websocket":
            await self._websocket(router, session, scope, receive, send)
            return
        listed = router.models.answer(scope["method"], raw_path_of(scope))
        if listed is not None and router.named_by_host(scope) is None:
            await listed(scope, receive, send)
        else:
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
            service, path = await router.route(scope, None)
        except ServingError as error:
            await error.answer(scope, receive, send)
        else:
            await tunnel(service, path, session, self._clock, scope, receive, send)

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
            async with _pumping(body):
                with held.cutoff:
                    service, path = await router.route(scope, body)
                    scope.setdefault("state", {})[ROUTED_TO] = service.key
                    event_id = header(scope, b"ce-id")
                    async with held.replica(service, service.timeouts, event_id) as lease:
                        await forward(session, scope, lease, path, body, writer)
        except ServingError as error:
            await error.answer(scope, receive, send)
            return
        except Truncated:
            return  # the server closes the connection: the client must not take it for complete
        if held.close() is not Cut.TIMED_OUT:
            return
        # A 504, or as Knative does in the middle of a stream, the text at its end (A2, A5).
        late = RequestTimedOut()
        if not writer.started:
            await late.answer(scope, receive, send)
        elif not writer.sized and not writer.finished:
            await writer.finish(late.body)


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
