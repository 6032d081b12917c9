"""A plane whose models are stubs: everything else of `relume up` is real.

Run as `python -m tests.page.plane STATE [--show-prompts]`; it serves until a signal.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from relume.config import InferenceService, load
from relume.plane.launch import LocalLauncher
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.models.store import ModelStore
from relume.serving.predictor import Predictor
from tests.ports import own_port
from tests.serving.processes import Process

if TYPE_CHECKING:
    from relume.serving.predictor import ServedService

FOLDER = Path(__file__).parent
MANIFEST = FOLDER / "plane.yaml"


class Stubs:
    """Starts stub models in place of predictors."""

    def keep(self, services: Sequence[InferenceService]) -> None: ...

    async def start(self, service: "ServedService", log_path: Path) -> Predictor:
        assert isinstance(service, InferenceService)
        port = own_port()
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", str(FOLDER / "stub_model.py"), str(port)),
                stdout=log,
                stderr=log,
                env={**service.env, "PYTHONPATH": ":".join(filter(None, sys.path))},
                start_new_session=True,
            )
        return Process(process, port)


class StubPlane(LocalPlane):
    """A plane with stub models."""

    async def _start_models(self, stack: contextlib.AsyncExitStack) -> LocalLauncher:
        return cast(LocalLauncher, Stubs())


async def serve(state: Path, *, show_prompts: bool) -> None:
    settings = PlaneSettings(state, 0, 0, template=False, grace_s=2.0, show_prompts=show_prompts)
    plane = StubPlane(load([MANIFEST]), settings, ModelStore(state / "models"))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with plane.running():
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), show_prompts="--show-prompts" in sys.argv[2:]))
