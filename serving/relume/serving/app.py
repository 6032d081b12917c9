"""The plane as an ASGI application: http, websocket, lifespan."""

import aiohttp

from relume.base.clock import Clock
from relume.serving import openai
from relume.serving.activator import Exchange
from relume.serving.asgi import Receive, Scope, Send, respond
from relume.serving.errors import PlaneStopping
from relume.serving.router import Router
from relume.serving.websocket import Tunnel, refuse


class App:
    """Answers 503 until it is opened and after it is closed.

    An object, not a method: uvicorn takes a bound method for an ASGI 2 application.
    """

    def __init__(self, clock: Clock, high_water: int) -> None:
        self._clock = clock
        self._high_water = high_water
        self._open: tuple[Router, aiohttp.ClientSession] | None = None

    def open(self, router: Router, session: aiohttp.ClientSession) -> None:
        """Begin to serve."""
        self._open = (router, session)

    def close(self) -> None:
        """Refuse from here on."""
        self._open = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._open is None:
            error = PlaneStopping("the serving plane is not running")
            await respond(send, error.status, error.headers, error.body)
            return
        router, session = self._open
        own = router.named_by_host(scope) is None
        if not (own and await openai.answer_models(scope, send, router.models)):
            exchange = Exchange(router, session, self._clock)
            await exchange.run(scope, receive, send, self._high_water)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if self._open is None:
            await refuse(scope, send, PlaneStopping("the serving plane is not running"))
            return
        router, session = self._open
        await Tunnel(router, session, self._clock).run(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
