"""The warm template, or none: what forks predictors, and what it costs."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from relume.runtimes.spawn import FreshLauncher, Launcher, Template, TemplateLauncher

# A Unix socket's path has room for 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_BYTES = 100


class Starter(Protocol):
    """What starts predictor processes, and what to say about it in the status."""

    @property
    def launcher(self) -> Launcher: ...

    def status(self) -> Mapping[str, object]: ...


class ColdStarter:
    """No template: each predictor imports vLLM itself."""

    def __init__(self) -> None:
        self.launcher = FreshLauncher()

    def status(self) -> Mapping[str, object]:
        return {"state": "off"}


class WarmStarter:
    """A template that loads in the background."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.launcher = TemplateLauncher(template)

    def status(self) -> Mapping[str, object]:
        """Adds the memory that the template holds, in MB (Linux only)."""
        return {**self._template.status(), "rss_mb": _rss_mb(self._template.pid)}


@contextlib.asynccontextmanager
async def warm_starter(state: Path) -> AsyncIterator[WarmStarter]:
    """Start the template; it ends with the block."""
    with _socket(state) as socket:
        async with Template(socket, state / "logs" / "template.log") as template:
            yield WarmStarter(template)


@contextlib.contextmanager
def _socket(state: Path) -> Iterator[Path]:
    socket = (state / "template.sock").resolve()
    if len(bytes(socket)) <= SOCKET_PATH_BYTES:
        yield socket
        return
    with tempfile.TemporaryDirectory(prefix="relume-") as folder:
        yield Path(folder) / "template.sock"


def _rss_mb(pid: int | None) -> float | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None
