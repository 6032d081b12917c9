"""An HTTP server on a socket that is already bound, inside our own event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from relume.plane.grace import Grace
from relume.web.protocol import HttpProtocol


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handlers: the command decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's WebSockets, where a handshake that the application has answered is complete.

    uvicorn takes such an answer, sends it, and logs the error that there was none.
    """

    async def send(self, message: Any) -> None:
        await super().send(message)
        is_body = message["type"] == "websocket.http.response.body"
        if is_body and not message.get("more_body", False):
            self.handshake_complete = True


class HttpServer:
    """Serves one ASGI app until `stop`; without `websockets` it speaks only HTTP."""

    def __init__(
        self,
        app: ASGIApp,
        listening: socket.socket,
        *,
        websockets: bool = True,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            interface="asgi3",
            ws=_WebSockets if websockets else "none",
            lifespan="off",
            workers=1,  # else uvicorn reads $WEB_CONCURRENCY, which is another server's
            access_log=False,
            log_config=None,
            log_level="error",  # a client's mistakes are answered, not logged
            # The client and the predictor set these headers; the server must not add its own.
            proxy_headers=False,
            server_header=False,
            date_header=False,
            # Longer than clients keep idle connections, so that no request meets a closing one.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=0,
        )
        self._config = config
        self._server = _Uvicorn(config)
        self._listening = listening
        self._serving: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Serve until `stop`; run it in a task group."""
        await self._server.serve(sockets=[self._listening])

    def start(self, group: asyncio.TaskGroup, name: str | None = None) -> None:
        """Serve in a task of `group`."""
        self._serving = group.create_task(self.serve(), name=name)

    def stop(self, grace_s: float) -> None:
        """Accept nothing more; `serve` returns after the open requests, or after the grace."""
        self._config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True

    def stop_now(self) -> None:
        """Close what is open, finished or not."""
        self._server.force_exit = True
        self._server.should_exit = True

    async def finished(self) -> None:
        """Wait for the end of a server that was started; when cancelled, `stop_now`."""
        assert self._serving is not None
        try:
            await finished(self._serving)
        finally:
            self.stop_now()

    async def drain(
        self, grace: Grace, *steps: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Accept nothing more, and let the open requests end within the grace.

        steps: run after the port is closed, one after the other, each bounded by the grace; they
        let go the requests that the server then waits for.
        """
        self.stop(grace.left())
        for step in steps:
            await grace.bound(step())
        await grace.bound(self.finished())


async def finished(task: "asyncio.Task[None]") -> None:
    """Wait for the end of a task without raising its exception, which its owner raises."""
    await asyncio.wait({task})
