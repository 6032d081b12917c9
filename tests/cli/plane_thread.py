"""A plane in a thread: the real control API on a free port, over what a test shows of a plane."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.eventing.observer import Observer
from relume.plane.addresses import listen, url_of
from relume.plane.control import Control
from relume.plane.server import HttpServer


class PlaneThread:
    """Runs `_run` of a subclass, which serves until the end of the block."""

    def __init__(self) -> None:
        self.observer = Observer()
        self._http = listen(0, "--port")
        self.url = url_of(self._http)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` on the plane's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _run(self) -> None:
        raise NotImplementedError

    async def _serve(self, control: Control, *others: HttpServer) -> None:
        """Serve the control API and the other servers until `stop`."""
        servers = [HttpServer(control.in_front_of(_nothing_else), self._http), *others]
        async with asyncio.TaskGroup() as group:
            for server in servers:
                group.create_task(server.serve())
            self._up.set()
            await self._stop.wait()
            control.close()
            for server in servers:
                server.stop(1)

    def _status(self, **parts: object) -> Mapping[str, object]:
        """A status as the control API gives it; `parts` are its serving, eventing and more."""
        return {
            "version": "0.1.0",
            "pid": 4242,
            "started_at": "2026-01-01T00:00:00Z",
            "http": self.url,
            "broker": "",
            "state_dir": "/state",
            "serving": {},
            **parts,
        }


async def _nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    await Response("not found", status_code=404)(scope, receive, send)
