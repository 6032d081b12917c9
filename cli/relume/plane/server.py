"""An HTTP server on a socket that is already bound, inside our own event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handlers: the command decides what a signal means."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves one ASGI app until `stop`; without `websockets`, it is asked in HTTP alone."""

    def __init__(self, app: ASGIApp, listening: socket.socket, *, websockets: bool = True) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            ws="auto" if websockets else "none",
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="error",  # what a client does wrong is the client's to know
            # These come from the client and the predictor; nothing here sets them a second time.
            proxy_headers=False,
            server_header=False,
            date_header=False,
            # Longer than clients keep idle connections, so that none is closed under a request.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=0,
        )
        self._config = config
        self._server = _Uvicorn(config)
        self._listening = listening

    async def serve(self) -> None:
        """Run until `stop`; to be owned by a task group."""
        await self._server.serve(sockets=[self._listening])

    def stop(self, grace_s: float) -> None:
        """Accept nothing more; `serve` returns when the open requests ended, or after the grace."""
        self._config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True

    def stop_now(self) -> None:
        """Close what is open, finished or not."""
        self._server.force_exit = True
        self._server.should_exit = True


async def finished(task: "asyncio.Task[None]") -> None:
    """Wait for a task without raising what it raised; its owner does that."""
    await asyncio.wait({task})
