"""Start predictor processes: fresh interpreters, or forks of a warm template.

    template = Template(socket, log)
    async with template:
        template.start()                       # loads in the background
        launcher = TemplateLauncher(template)
        predictor = await launcher.start(argv=["--model", …], env={…}, log_path=…)
        status = await predictor.wait()

All of them end with this process, however it ends (`relume.base.parent`).
"""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from relume.base.errors import RelumeError
from relume.runtimes.phases import monotonic_ms
from relume.runtimes.settings import compiles

log = logging.getLogger(__name__)

_MODULE = "relume.runtimes.launcher"
# Read when vLLM and its libraries are imported, which the template did before it knew the service.
_READ_AT_IMPORT = ("VLLM_", "HF_", "TRANSFORMERS_", "TORCH", "OMP_", "KMP_", "MKL_", "LD_")
_READ_WHEN_USED = ("HF_TOKEN",)
_RESTART_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class LaunchFailed(RelumeError):
    """A predictor process could not be started at all."""

    reason = "launch-failed"
    retryable = True


class Process(Protocol):
    """A predictor process, `started` from a `template`, a loaded `engine`, or `fresh`."""

    pid: int
    started: str

    async def wait(self) -> int:
        """Its exit status once it ended; a negative number is the signal that ended it."""

    async def announced(self) -> None:
        """Return when it says itself that it is ready, or has ended; never where it cannot say."""

    def terminate(self) -> None:
        """SIGTERM: drain, then exit."""

    def kill(self) -> None:
        """SIGKILL to it and to what it forked."""


class Launcher(Protocol):
    """What starts predictor processes."""

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Process:
        """Start one with `vllm serve` flags `argv`; `env` is added to ours. Raises LaunchFailed."""


class FreshLauncher:
    """Each predictor is a new interpreter that imports vLLM itself, as a new container would."""

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Process:
        """See `Launcher.start`."""
        try:
            return _Fresh(await _interpreter(argv, env, log_path))
        except OSError as error:
            raise LaunchFailed(
                f"cannot start {sys.executable} with its log in {log_path}: {error}"
            ) from error


async def _interpreter(
    argv: Sequence[str], env: Mapping[str, str], log: Path, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start the runtime's launcher with `argv`, in a session of its own; `env` is added to ours."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE, *argv),
            env={**os.environ, **env, "RELUME_PARENT_PID": str(os.getpid())},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=pass_fds,
            start_new_session=True,
        )


class _Fresh:
    started = "fresh"

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.pid = child.pid

    async def wait(self) -> int:
        return await self._child.wait()

    async def announced(self) -> None:
        await self._child.wait()

    def terminate(self) -> None:
        if self._child.returncode is None:
            self._child.terminate()

    def kill(self) -> None:
        if self._child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class Template:
    """The warm template process; restarted with growing pauses when it dies.

    Its `state` is `stopped` until somebody wants it, `loading`, `ready`, `failed` between two
    lives, or `dropped` for good.
    """

    def __init__(self, socket: Path, log: Path) -> None:
        self.socket = socket
        self.log = log
        self.state = "stopped"
        self.pid: int | None = None
        self._served = False
        self._changed = asyncio.Condition()
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Template":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._set("dropped")  # whoever asks for it now starts none
        self.socket.unlink(missing_ok=True)

    def start(self) -> None:
        """Load it from now on, in the background; nothing where that was asked for before."""
        if self._keeper is None and self.state == "stopped":
            self.state = "loading"
            self._keeper = asyncio.create_task(self._keep())

    async def ready(self) -> bool:
        """Wait until the template can fork (True) or failed to load (False); see `start`."""
        self.start()
        async with self._changed:
            await self._changed.wait_for(lambda: self.state in ("ready", "failed", "dropped"))
            return self.state == "ready"

    async def drop(self) -> None:
        """End the process for good, so that its memory is free; every start is fresh then."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self._set("dropped")

    def status(self) -> dict[str, object]:
        """State and pid, for people."""
        return {"state": self.state, "pid": self.pid}

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._served = False
            try:
                await self._run()
            except OSError as error:
                log.warning("the warm template cannot be started: %s", error)
            await self._set("failed")
            failures = 0 if self._served else failures + 1
            await asyncio.sleep(_RESTART_S[min(failures, len(_RESTART_S) - 1)])

    async def _run(self) -> None:
        """One life of the template process."""
        await self._set("loading")
        read, write = os.pipe()
        try:
            argv = ("--template", str(self.socket), str(write))
            child = await _interpreter(argv, {}, self.log, pass_fds=(write,))
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        self.pid = child.pid
        try:
            if await _first_byte(read):
                self._served = True
                await self._set("ready")
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
            self.pid = None

    async def _set(self, state: str) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()


async def _first_byte(pipe: int) -> bool:
    """Whether a byte came before the pipe's other end closed."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
    )
    try:
        return bool(await reader.read(1))
    finally:
        transport.close()


class TemplateLauncher:
    """Each predictor is a fork of the template; fresh where the template cannot serve."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._fresh = FreshLauncher()

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Process:
        """See `Launcher.start`; waits for a template that is still loading.

        The template was imported to compile nothing, so a model that is compiled starts fresh.
        """
        early = (name for name in env if name.startswith(_READ_AT_IMPORT))
        if all(name in _READ_WHEN_USED for name in early) and not compiles(argv):
            requested = monotonic_ms()
            if await self._template.ready():
                with suppress(OSError, EOFError):
                    return await self._fork(argv, env, log_path, requested)
        return await self._fresh.start(argv=argv, env=env, log_path=log_path)

    async def _fork(
        self, argv: Sequence[str], env: Mapping[str, str], log_path: Path, requested: float
    ) -> Process:
        request = {
            "argv": list(argv),
            "env": dict(env),
            "log": str(log_path),
            "requested_ms": requested,
        }
        return await fork(self._template.socket, request, started="template")


async def fork(template: Path, request: Mapping[str, object], *, started: str) -> "Forked":
    """The process that the template behind the socket `template` makes of `request`.

    Raises OSError or EOFError where there is no template that answers.
    """
    reader, writer = await asyncio.open_unix_connection(str(template))
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        answer = json.loads(await reader.readuntil(b"\n"))
    except BaseException:
        writer.close()
        raise
    return Forked(answer["pid"], started, reader, writer)


class Forked:
    """A fork of a template; it lives as long as the connection that asked for it."""

    def __init__(
        self, pid: int, started: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = pid
        self.started = started
        self.is_ready = False
        self._writer = writer
        self._announced = asyncio.Event()
        self._exit = asyncio.create_task(self._read(reader))

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def announced(self) -> None:
        await self._announced.wait()

    def terminate(self) -> None:
        self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], signal_number: int) -> None:
        if not self._exit.done():
            with suppress(ProcessLookupError):
                send(self.pid, signal_number)

    async def _read(self, reader: asyncio.StreamReader) -> int:
        """The exit status from the template; a template that died had its forks killed."""
        try:
            while "exit" not in (message := json.loads(await reader.readuntil(b"\n"))):
                self.is_ready = True
                self._announced.set()
            return int(message["exit"])
        except (OSError, EOFError):
            return -signal.SIGKILL
        finally:
            self._announced.set()
            self._writer.close()
