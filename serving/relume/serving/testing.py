"""For tests and measurements of what is around a predictor: one that runs already.

The plane starts nothing, and what it takes for a predictor is a server that somebody else runs.
"""

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from relume.serving.predictor import Kept, Probes, ServedService, StartedFrom


class RunningPredictor:
    """A server at `base_url`, as `relume.serving.predictor.Predictor`; its end is only pretended.

    The process is that of the test, so nobody may send it a signal.
    """

    pid = os.getpid()
    started: StartedFrom = "fresh"
    phases_ms: Mapping[str, float] = {}
    ended_by: str | None = None

    def __init__(self, base_url: str, probes: Probes) -> None:
        self.base_url = base_url
        self.probes = probes
        self._ended = asyncio.Event()

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    async def announced(self) -> None:
        await self._ended.wait()

    def terminate(self) -> None:
        self._ended.set()

    discard = kill = terminate


class RunningLauncher:
    """Gives each service the same server; its memory is not counted."""

    def __init__(self, base_url: str, probes: Probes | None = None) -> None:
        """probes: the paths of the server's health; by default those of our runtime."""
        self._base_url = base_url
        self._probes = probes or Probes()

    async def start(self, service: ServedService, log_path: Path) -> RunningPredictor:
        return RunningPredictor(self._base_url, self._probes)

    def memory_bytes(self, service: ServedService) -> int:
        return 0

    async def measure(self, loaded: Collection[int]) -> None:
        """Nothing is measured."""

    def kept(self) -> Sequence[Kept]:
        return ()

    async def drop(self, kept: Kept) -> None:
        """Nothing is kept."""
