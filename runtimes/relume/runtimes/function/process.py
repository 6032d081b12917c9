"""One process of a function: func-python's server, with an eye on its memory.

The process sees its own environment variables and those of this process that say where programs,
certificates and the network are. Everything else it must be given, as on a cluster.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import relume.base.parent
from relume.base.errors import RelumeError
from relume.base.vocabulary import OUT_OF_MEMORY

_SERVE = Path(__file__).with_name("serve.py")
_MODULES = {"http": "http", "cloudevent": "cloudevent"}
_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_LOOK_AT_MEMORY_S = 0.2


class FunctionNotStarted(RelumeError):
    """The process of a function could not be started at all."""

    reason = "function-not-started"
    retryable = True


class FunctionProcess:
    """A running process. `ended_by` says why it ended, where the exit code does not."""

    def __init__(self, child: asyncio.subprocess.Process, log_path: Path) -> None:
        self._child = child
        self._log_path = log_path
        self._watch: asyncio.Task[None] | None = None
        self._killed_for: str | None = None
        self.pid = child.pid

    @property
    def ended_by(self) -> str | None:
        if self._killed_for is not None or self._child.returncode is None:
            return self._killed_for
        return _describe(self._child.returncode)

    def watch(self, most_bytes: int) -> None:
        """Kill the process once it holds more than `most_bytes`, and note it in its log."""
        self._watch = asyncio.create_task(self._watch_memory(most_bytes))

    async def _watch_memory(self, most_bytes: int) -> None:
        while self._child.returncode is None:
            held = resident_bytes(self.pid)
            if held > most_bytes:
                self._killed_for = (
                    f"{OUT_OF_MEMORY}: the function held {held >> 20} MiB of memory, and its limit "
                    f"is {most_bytes >> 20} MiB"
                )
                with contextlib.suppress(OSError), self._log_path.open("a") as log:
                    log.write(f"relume: killed: {self._killed_for}\n")
                self.kill()
                return
            await asyncio.sleep(_LOOK_AT_MEMORY_S)

    async def wait(self) -> int:
        """The exit code, negative for a signal."""
        code = await self._child.wait()
        if self._watch is not None:
            self._watch.cancel()
        return code

    def terminate(self) -> None:
        """SIGTERM: func-python's server finishes what it has begun."""
        if self._child.returncode is None:
            self._child.terminate()

    def kill(self) -> None:
        """SIGKILL to it and to what it started."""
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def _describe(code: int) -> str:
    if code >= 0:
        return f"the function exited with code {code}"
    try:
        return f"the function was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"the function was killed by signal {-code}"


def resident_bytes(pid: int) -> int:
    """The memory that a process holds; 0 where the system does not tell (it does on Linux)."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


async def start(
    python: Path,
    folder: Path,
    invoke: Literal["http", "cloudevent"],
    environment: Mapping[str, str],
    log_path: Path,
    memory_bytes: int | None,
) -> FunctionProcess:
    """Start the function in `folder`, which `python` of its own environment runs.

    `environment` says where to listen (LISTEN_ADDRESS). Raises FunctionNotStarted.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    parent_py = relume.base.parent.__file__
    assert parent_py is not None
    try:
        with log_path.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *(str(python), "-P", str(_SERVE), parent_py, str(os.getpid()), _MODULES[invoke]),
                cwd=folder,
                env={
                    **inherited,
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environment,
                    "PYTHONPATH": str(folder),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise FunctionNotStarted(f"cannot start {python}: {error.strerror}") from error
    process = FunctionProcess(child, log_path)
    if memory_bytes is not None:
        process.watch(memory_bytes)
    return process
