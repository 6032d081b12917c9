"""Model templates: for each service that wants one, a process that holds its loaded engine.

    async with ModelTemplates(template, TemplateLauncher(template), sockets, logs) as engines:
        engines.want("default/summarize", argv, env)       # built in the background
        process = await engines.start("default/summarize", argv=…, env=…, log_path=…)

A model template is a fork of the warm template and ends with it. It is built while no predictor
starts, one at a time, and stopped while one does. Until it is there, and wherever it fails, a
predictor is started as one without it.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from relume.runtimes.phases import monotonic_ms
from relume.runtimes.spawn import Forked, Launcher, Process, Template, fork
from relume.runtimes.template import NOT_LOADABLE

log = logging.getLogger(__name__)

_PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)


@dataclass(frozen=True, slots=True)
class HeldEngine:
    """An engine that is in memory for the next start of a service."""

    service: str
    pid: int
    last_used: float
    """When a predictor was forked from it, or it was built; monotonic seconds."""
    in_use: bool
    """Predictors that it forked run, and would end with it."""
    key: str
    """What it was built from; another one may need another amount of memory."""
    loaded: bool
    """Whether it is built."""
    former: bool
    """Whether it goes by itself when no predictor depends on it any more."""


class ModelTemplates:
    """Keeps the model templates of services, by their names."""

    def __init__(
        self,
        template: Template,
        otherwise: Launcher,
        sockets: Path,
        logs: Path,
        *,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`otherwise` starts a predictor whose model template is not there."""
        self._template = template
        self._otherwise = otherwise
        self._sockets = sockets
        self._logs = logs
        self._now = now
        self._pause = pause
        self._numbers = count(1)
        self._kept: dict[str, _ModelTemplate] = {}
        self._retiring: list[_ModelTemplate] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._builds = _Builds()

    async def __aenter__(self) -> "ModelTemplates":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def want(self, service: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Have an engine for predictors of `service` with these flags and this environment.

        One with others goes when no predictor depends on it any more.
        """
        key = _key(argv, env)
        old = self._kept.get(service)
        if old is not None and old.key == key:
            return
        if old is not None:
            self._retire(old)
        # One of its own: an engine with the same flags may still be on its way out.
        socket = self._sockets / f"engine-{next(self._numbers)}.sock"
        file = self._logs / f"{service.replace('/', '.')}.template.log"
        request = {"argv": list(argv), "env": dict(env), "log": str(file), "template": str(socket)}
        kept = self._kept[service] = _ModelTemplate(service, key, socket, request, self._now)
        kept.keeper = self._run(kept.keep(self._template, self._builds, self._pause))

    def retire_all_but(self, services: Collection[str]) -> None:
        """Give up the engines of all other services, as soon as no predictor depends on them."""
        for service in self._kept.keys() - set(services):
            self._retire(self._kept.pop(service))

    async def start(
        self, service: str, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Process:
        """Start a predictor of `service`, from its engine if that is there. Raises LaunchFailed."""
        kept = self._kept.get(service)
        if kept is not None and kept.key == _key(argv, env):
            with contextlib.suppress(OSError, EOFError):
                if (forked := await kept.fork(argv, env, log_path)) is not None:
                    self._run(kept.follow(forked))
                    return forked
        process = await self._otherwise.start(argv=argv, env=env, log_path=log_path)
        self.want(service, argv, env)
        self.give_way_to(process)
        return process

    def give_way_to(self, process: Process) -> None:
        """Build nothing until `process` is ready or has ended: somebody waits for it."""
        self._run(self._builds.give_way_to(process))

    def status(self) -> Sequence[Mapping[str, object]]:
        """For people: whose engines there are, and whether they can be forked."""
        return [
            {"service": kept.service, "state": kept.state, "pid": kept.pid}
            for kept in self._kept.values()
        ]

    def held(self) -> Sequence[HeldEngine]:
        """The engines that are in memory, those too that go with their last predictor."""
        kept = [(each, False) for each in self._kept.values()]
        former = [(each, True) for each in self._retiring]
        return [
            HeldEngine(
                each.service,
                pid,
                each.last_used,
                bool(each.forks) or goes,
                each.key,
                each.state == "ready",
                goes,
            )
            for each, goes in (*kept, *former)
            if (pid := each.pid) is not None
        ]

    async def drop(self, service: str) -> None:
        """Give up the engine of a service; the next start of it has it built again."""
        if (kept := self._kept.pop(service, None)) is not None:
            await kept.end()

    def _retire(self, old: "_ModelTemplate") -> None:
        """See an engine to its end, which comes when no predictor depends on it."""
        self._retiring.append(old)
        self._run(old.retire()).add_done_callback(lambda _: self._retiring.remove(old))

    def _run(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Builds:
    """Lets one engine be built at a time, and none while a predictor starts."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self._starting = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._builder: Forked | None = None

    async def give_way_to(self, process: Process) -> None:
        self._starting += 1
        self._quiet.clear()
        self._signal(signal.SIGSTOP)
        try:
            await process.announced()
        finally:
            self._starting -= 1
            if not self._starting:
                self._quiet.set()
                self._signal(signal.SIGCONT)

    async def quiet(self) -> None:
        """Return when no predictor starts."""
        await self._quiet.wait()

    async def built(self, forked: Forked) -> bool:
        """Whether `forked` said that it is ready, and not that it ended."""
        self._builder = forked
        if not self._quiet.is_set():
            self._signal(signal.SIGSTOP)
        try:
            await forked.announced()
        finally:
            self._builder = None
        return forked.is_ready

    def _signal(self, number: signal.Signals) -> None:
        if self._builder is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._builder.pid, number)


class _ModelTemplate:
    """The engine of one service with one set of flags; built again when its process dies."""

    def __init__(
        self,
        service: str,
        key: str,
        socket: Path,
        request: Mapping[str, object],
        now: Callable[[], float],
    ) -> None:
        self.service = service
        self.key = key
        self.forks: set[Forked] = set()
        self.last_used = now()
        self.keeper: asyncio.Task[None] | None = None
        self._socket = socket
        self._request = request
        self._now = now
        self._process: Forked | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def state(self) -> str:
        """`stopped`, `loading` or `ready`."""
        if self._process is None:
            return "stopped"
        return "ready" if self._process.is_ready else "loading"

    async def fork(
        self, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Forked | None:
        """A predictor with the engine; None where there is none now. Raises OSError, EOFError."""
        if self._process is None or not self._process.is_ready:
            return None
        request = {
            "argv": list(argv),
            "env": dict(env),
            "log": str(log_path),
            "requested_ms": monotonic_ms(),
        }
        forked = await fork(self._socket, request, started="engine")
        self.forks.add(forked)
        self.last_used = self._now()
        return forked

    async def follow(self, forked: Forked) -> None:
        """Count `forked` until it ends."""
        await forked.wait()
        self.forks.discard(forked)

    async def keep(
        self, template: Template, builds: _Builds, pause: Callable[[float], Awaitable[object]]
    ) -> None:
        """Build the engine, and build it again with growing pauses whenever its process ended."""
        failures = 0
        while True:
            await builds.quiet()
            try:
                lived = await template.ready() and await self._live(template, builds)
            except (OSError, EOFError) as error:
                log.warning("the engine of %s cannot be built: %s", self.service, error)
                lived = False
            if lived is None:
                log.warning(
                    "%s starts without a loaded engine; %s", self.service, self._request["log"]
                )
                return
            failures = 0 if lived else failures + 1
            await pause(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])

    async def _live(self, template: Template, builds: _Builds) -> bool | None:
        """One life of the process: whether it was built; None: this model never can be."""
        async with builds.turn:
            await builds.quiet()
            request = {**self._request, "requested_ms": monotonic_ms()}
            process = await fork(template.socket, request, started="template")
            try:
                self._process = process
                built = await builds.built(process)
                if built:
                    self.last_used = self._now()
            except BaseException:
                process.kill()
                raise
        try:
            code = await process.wait()
        finally:
            self._process = None
            process.kill()
        return True if built else (None if code == NOT_LOADABLE else False)

    async def retire(self) -> None:
        """End when no predictor depends on this engine."""
        while self.forks:
            await asyncio.wait([asyncio.ensure_future(f.wait()) for f in self.forks])
            await asyncio.sleep(0)
        await self.end()

    async def end(self) -> None:
        """End the process and build none again."""
        if self.keeper is not None:
            self.keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.keeper
        self._socket.unlink(missing_ok=True)


def _key(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """What an engine is built from: all flags and variables but the port of the predictor."""
    at = {i for i, word in enumerate(argv) if "--port" in (word, *argv[max(0, i - 1) : i])}
    flags = [word for i, word in enumerate(argv) if i not in at]
    variables = sorted((name, value) for name, value in env.items() if name != "PORT")
    return hashlib.sha256(json.dumps([flags, variables]).encode()).hexdigest()
