"""The event layer in front of a server that is not ours, as a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from relume.plane.addresses import HOST, listen, url_of
from relume.plane.grace import Grace
from relume.plane.server import HttpServer
from relume.runtimes.upstream import UpstreamRuntime
from relume.web.hops import client_session

# Below the 5 s after which uvicorn, behind which most such servers run, closes an idle connection.
_KEEPALIVE_S = 4.0


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """`upstream` is the server's base URL; `model` is for events that name none."""

    upstream: str
    model: str | None = None
    host: str = HOST
    port: int = 8080
    grace_s: float = 300.0


class Runtime:
    """One runtime, between the start and the end of `running`."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.grace = Grace(settings.grace_s)
        self.url = ""
        self._settings = settings

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Runtime"]:
        """Serve for as long as the block runs; drain within the grace. Raises PortTaken."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            listening = stack.enter_context(listen(settings.port, "--port", settings.host))
            self.url = url_of(listening)
            session = await stack.enter_async_context(client_session(_KEEPALIVE_S))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            app = UpstreamRuntime(settings.upstream, session, settings.model)
            server = HttpServer(app, listening)
            server.start(group)
            stack.push_async_callback(server.drain, self.grace)
            yield self
