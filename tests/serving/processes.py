"""Launches fake predictors as real processes."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from relume.base.errors import RelumeError
from relume.config import InferenceService
from relume.serving.predictor import Predictor, Probes, StartedFrom
from tests.ports import own_port

PROGRAM = Path(__file__).with_name("fake_predictor.py")


class Process:
    """A Predictor around an asyncio subprocess."""

    started: StartedFrom = "fresh"
    probes = Probes()
    phases_ms: Mapping[str, float] = {}
    ended_by: str | None = None

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.pid = process.pid
        self.base_url = f"http://127.0.0.1:{port}"

    async def wait(self) -> int:
        return await self._process.wait()

    async def announced(self) -> None:
        await self._process.wait()

    def terminate(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()

    def discard(self) -> None:
        self.kill()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


class ProcessLauncher:
    """Starts fake predictors; remembers them all."""

    def __init__(self) -> None:
        self.started: list[Process] = []
        self.refuse: str | None = None

    async def start(self, service: InferenceService, log_path: Path) -> Predictor:
        if self.refuse is not None:
            raise RelumeError(self.refuse, reason="refused")
        port = own_port()
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(PROGRAM),
                str(port),
                stdout=log,
                stderr=log,
                env={**os.environ, **service.env},
            )
        self.started.append(Process(process, port))
        return self.started[-1]

    @property
    def alive(self) -> list[int]:
        """The pids that still run."""
        return [p.pid for p in self.started if Path(f"/proc/{p.pid}").exists()]
