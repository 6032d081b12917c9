"""A machine without sockets or processes: predictors that live on the virtual clock.

A plane runs on it a hundred times faster than with real sockets, and the same seed gives the same
run. `Session` takes the place of the plane's HTTP client.
"""

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from relume.base.errors import RelumeError
from relume.base.testing import VirtualClock
from relume.base.vocabulary import DRAINING, NOT_BEGUN_HEADER
from relume.serving.predictor import Kept, Predictor, Probes, ServedService, StartedFrom

#: The header by which a request says how it is answered: seconds until the first byte, how many
#: chunks there are, and the seconds between two of them.
PLAN = "x-plan"
NOBODY = aiohttp.RequestInfo(URL("http://127.0.0.1"), "GET", CIMultiDictProxy(CIMultiDict()))


class QuickClock(VirtualClock):
    """A virtual clock that lets the loop turn exactly as often as something is ready."""

    async def advance(self, seconds: float) -> None:
        target = self._elapsed + seconds
        await rest()
        while self._timers and self._timers[0].when <= target:
            await self.one()
        self._elapsed = target
        await rest()

    async def one(self) -> None:
        """Let the next timer run, and everything that it wakes."""
        timer = heapq.heappop(self._timers)
        self._elapsed = max(self._elapsed, timer.when)
        if not timer.cancelled:
            timer.callback()
            await rest()


async def rest() -> None:
    """Let everything run that needs no time."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(10_000):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError("the plane is busy for ever")


class Died(aiohttp.ClientError):
    """The predictor is not there, or ended in the middle."""


class SimulatedPredictor:
    """A process: loads for a while, answers for as long as the path says, and ends."""

    started: StartedFrom = "template"
    probes = Probes()
    phases_ms: Mapping[str, float] = {}
    ended_by: str | None = None

    def __init__(self, machine: "Machine", service: ServedService, pid: int, need: int) -> None:
        self.machine = machine
        self.service = service
        self.pid = pid
        self.need = need
        self.base_url = f"http://127.0.0.1:{pid}"
        self.requests: set[object] = set()
        self._waiting: set[asyncio.Future[None]] = set()
        self.answered = 0
        self.drains = False
        now = machine.clock.monotonic()
        self.ready_at = now + machine.load_s()
        self.exit_code: int | None = None
        self._ended = asyncio.Event()
        if machine.crashes_while_loading():
            machine.clock.call_later((self.ready_at - now) / 2, lambda: self.exit(3))

    @property
    def ready(self) -> bool:
        return self.exit_code is None and self.machine.clock.monotonic() >= self.ready_at

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.exit_code is not None
        return self.exit_code

    async def announced(self) -> None:
        await self._ended.wait()

    def exit(self, code: int) -> None:
        if self.exit_code is None:
            self.exit_code = code
            self._ended.set()
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(Died("the process ended"))

    def _end_soon(self) -> None:
        self.drains = True
        if self.exit_code is None and not self.requests:
            self.machine.clock.call_later(self.machine.linger_s(), lambda: self.exit(0))

    def terminate(self) -> None:
        self.machine.told_to_stop(self)
        self._end_soon()

    def sigterm_from_outside(self) -> None:
        self._end_soon()

    def discard(self) -> None:
        self.machine.told_to_stop(self)
        self.exit(0)

    def kill(self) -> None:
        self.exit(-9)

    async def work(self, seconds: float) -> None:
        """Run a part of a request. Raises Died when the process ends meanwhile."""
        over = asyncio.get_running_loop().create_future()
        timer = self.machine.clock.call_later(seconds, lambda: over.done() or over.set_result(None))
        self._waiting.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._waiting.discard(over)

    def begin(self, request: object) -> None:
        """Take a request."""
        self.requests.add(request)

    def end(self, request: object) -> None:
        """The request was answered, or its client is gone."""
        self.requests.discard(request)
        if self.drains:
            self._end_soon()


class Machine:
    """The launcher of such predictors, and what a test decides about them."""

    def __init__(self, clock: QuickClock) -> None:
        self.clock = clock
        self.processes: list[SimulatedPredictor] = []
        self.needs: dict[str, int] = {}
        self.things: list[Kept] = []
        self.load_s: Callable[[], float] = lambda: 1.0
        self.linger_s: Callable[[], float] = lambda: 0.0
        self.drop_s: Callable[[], float] = lambda: 0.0
        self.crashes_while_loading: Callable[[], bool] = lambda: False
        self.refuses: Callable[[], bool] = lambda: False
        self.told_to_stop: Callable[[SimulatedPredictor], None] = lambda _: None
        self.asked: Callable[[SimulatedPredictor, Mapping[str, str]], None]
        self.asked = lambda *_: None
        self.started: Callable[[SimulatedPredictor], None] = lambda _: None

    @property
    def alive(self) -> list[SimulatedPredictor]:
        return [each for each in self.processes if each.exit_code is None]

    async def start(self, service: ServedService, log_path: Path) -> Predictor:
        await asyncio.sleep(0)
        if self.refuses():
            raise RelumeError("it cannot be started today")
        need = self.memory_bytes(service)
        predictor = SimulatedPredictor(self, service, 20_000 + len(self.processes), need)
        self.processes.append(predictor)
        self.started(predictor)
        return predictor

    def memory_bytes(self, service: ServedService) -> int:
        return self.needs.get(f"{service.name} {service.revision}", self.needs[service.name])

    async def measure(self, loaded: Collection[int]) -> None:
        await asyncio.sleep(0)

    def kept(self) -> list[Kept]:
        return list(self.things)

    async def drop(self, kept: Kept) -> None:
        await self.clock.sleep(self.drop_s())
        self.things = [each for each in self.things if each.name != kept.name]

    def at(self, url: str) -> SimulatedPredictor:
        """Return the process behind an address. Raises Died."""
        number = int(url.split(":")[2].partition("/")[0])
        predictor = self.processes[number - 20_000]
        if predictor.exit_code is not None:
            raise Died("connection refused")
        return predictor


class _Content:
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def iter_any(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def readany(self) -> bytes:
        return await anext(self._chunks, b"")


class _Response:
    def __init__(self, status: int, chunks: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.raw_headers = [(k.encode(), v.encode()) for k, v in headers.items()]
        self.content = _Content(chunks)


class Exchange:
    """What `session.request` returns: a context manager around the answer."""

    def __init__(self, machine: Machine, url: str, headers: Mapping[str, str]) -> None:
        self._machine, self._url, self.headers = machine, url, headers
        self._predictor: SimulatedPredictor | None = None

    async def __aenter__(self) -> _Response:
        predictor = self._machine.at(self._url)
        path = "/" + self._url.split("/", 3)[3]
        if path == "/health":
            return _Response(200 if predictor.ready else 503, _nothing(), {})
        if path == "/startup":
            return _Response(200, _once(json.dumps({"phase": "weights"}).encode()), {})
        await asyncio.sleep(0)
        if predictor.exit_code is not None:
            raise Died("reset")
        if predictor.drains:
            return _Response(503, _nothing(), {NOT_BEGUN_HEADER: DRAINING})
        self._machine.asked(predictor, self.headers)
        self._predictor = predictor
        predictor.begin(self)
        before_s, chunks, between_s = map(float, self.headers[PLAN].split())
        try:
            await predictor.work(before_s)
        except BaseException:
            predictor.end(self)
            raise
        kind = "text/event-stream" if chunks > 1 else "text/plain"
        said = self._stream(predictor, int(chunks), between_s)
        return _Response(200, said, {"content-type": kind})

    async def __aexit__(self, *_: object) -> None:
        if self._predictor is not None:
            self._predictor.end(self)

    async def _stream(
        self, predictor: SimulatedPredictor, chunks: int, between_s: float
    ) -> AsyncIterator[bytes]:
        for number in range(chunks):
            if number:
                await predictor.work(between_s)
            yield b"data: x\n\n"
        predictor.answered += 1


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Socket:
    """A WebSocket that says something once and stays open for a while."""

    protocol = None
    close_code = 1000

    def __init__(self, predictor: SimulatedPredictor, headers: Mapping[str, str]) -> None:
        self._predictor, self.headers = predictor, headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._predictor.end(self)

    async def receive(self) -> aiohttp.WSMessage:
        try:
            await self._predictor.work(float(self.headers[PLAN].split()[0]))
        except Died:
            self.close_code = 1006
        return aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)

    async def send_str(self, text: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self, **_: object) -> None: ...


class Session:
    """Stands for `aiohttp.ClientSession` at the servers of a `Machine`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def get(self, url: str, **_: object) -> Exchange:
        return Exchange(self._machine, url, {})

    def request(
        self, method: str, url: object, *, headers: Mapping[str, str], data: Any, **_: object
    ) -> Exchange:
        return Exchange(self._machine, str(url), headers)

    async def ws_connect(self, url: object, *, headers: Mapping[str, str], **_: object) -> Socket:
        predictor = self._machine.at(str(url))
        await asyncio.sleep(0)
        if predictor.exit_code is not None:
            raise Died("reset")
        if predictor.drains:
            refused = CIMultiDict({NOT_BEGUN_HEADER: DRAINING})
            raise aiohttp.WSServerHandshakeError(NOBODY, (), status=503, headers=refused)
        self._machine.asked(predictor, headers)
        socket = Socket(predictor, headers)
        predictor.begin(socket)
        return socket

    async def close(self) -> None: ...
