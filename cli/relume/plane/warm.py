"""The warm template, or none: what forks predictors, and what it costs."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from relume.runtimes.spawn import FreshLauncher, Launcher, Template, TemplateLauncher


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
async def warm_starter(sockets: Path, log: Path) -> AsyncIterator[WarmStarter]:
    """Start the template, with its socket in the folder `sockets`; it ends with the block."""
    async with Template(sockets / "template.sock", log) as template:
        yield WarmStarter(template)


def _rss_mb(pid: int | None) -> float | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None
