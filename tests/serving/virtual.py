"""Predictors that live in the test's own process."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from aiohttp import web

from relume.base.errors import RelumeError
from relume.config import InferenceService
from relume.serving.predictor import Kept, Predictor, Probes, ServedService, StartedFrom


async def eventually(holds: Callable[[], bool], what: str = "the condition") -> None:
    """Wait, in real time, for what real sockets and processes bring about."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.002)
    assert holds(), what


FIRST_PID = 1000
NUMBER = web.AppKey("number", int)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def hello(request: web.Request) -> web.StreamResponse:
    return web.json_response({"hello": request.path})


class InProcessPredictor:
    """A Predictor whose readiness, answers and death a test decides."""

    started: StartedFrom = "template"
    probes = Probes()
    phases_ms: Mapping[str, float] = {}
    ended_by: str | None = None

    def __init__(self, pid: int, handler: Handler) -> None:
        self.pid = pid
        self.base_url = ""
        self.ready = False
        self.terminated = False
        self.killed = False
        self.lingers = False
        self.leaves_port_open = False
        self.phases: dict[str, float] = {"fork": 20.0, "weights": 300.0}
        self.work: dict[str, int] = {}
        self.probed = 0
        self.seen: list[web.Request] = []
        self.service = ""
        self.running = 0
        self.died_busy = False
        self._handler = handler
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._server: web.AppRunner | None = None

    async def open(self) -> None:
        """Open the port."""
        app = web.Application()
        app[NUMBER] = self.pid - FIRST_PID + 1
        app.router.add_get("/health", self._health)
        app.router.add_get("/startup", self._startup)
        app.router.add_route("*", "/{rest:.*}", self._infer)
        self._server = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await self._server.setup()
        site = web.TCPSite(self._server, "127.0.0.1", 0)
        await site.start()
        host, port = self._server.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"

    async def close_port(self) -> None:
        """Refuse connections from here on."""
        server, self._server = self._server, None
        if server is not None:
            await server.cleanup()

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=200 if self.ready else 503)

    async def _startup(self, request: web.Request) -> web.StreamResponse:
        self.probed += 1
        return web.json_response({"phase": "weights", "phases_ms": self.phases, **self.work})

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.running += 1
        try:
            return await self._handler(request)
        finally:
            self.running -= 1

    @property
    def exited(self) -> bool:
        return self._exit.done()

    def exit(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)

    async def wait(self) -> int:
        code = await asyncio.shield(self._exit)
        if not self.leaves_port_open:
            await self.close_port()
        return code

    async def announced(self) -> None:
        await asyncio.shield(self._exit)

    def terminate(self) -> None:
        self.terminated = True
        self.died_busy = self.running > 0
        if not self.lingers:
            self.exit(0)

    def discard(self) -> None:
        self.terminate()

    def kill(self) -> None:
        self.killed = True
        self.exit(-9)


class InProcessLauncher:
    """Starts such predictors; `handler` answers every inference."""

    def __init__(self, handler: Handler = hello) -> None:
        self.handler = handler
        self.started: list[InProcessPredictor] = []
        self._pids = itertools.count(FIRST_PID)
        self.refuse: str | None = None
        self.template_loaded = asyncio.Event()
        self.template_loaded.set()
        self.needs: dict[str, int] = {}
        self.things: list[Kept] = []
        self.dropped: list[str] = []
        self.logs: list[Path] = []
        self.loaded: set[int] = set()

    def memory_bytes(self, service: ServedService) -> int:
        return self.needs.get(service.name, 1)

    async def measure(self, loaded: Collection[int]) -> None:
        self.loaded = set(loaded)

    def kept(self) -> list[Kept]:
        return self.things

    async def drop(self, kept: Kept) -> None:
        self.things.remove(kept)
        self.dropped.append(kept.name)

    async def start(self, service: InferenceService, log_path: Path) -> Predictor:
        await self.template_loaded.wait()
        if self.refuse is not None:
            raise RelumeError(self.refuse)
        predictor = InProcessPredictor(next(self._pids), self.handler)
        predictor.service = service.name
        await predictor.open()
        self.started.append(predictor)
        self.logs.append(log_path)
        return predictor
