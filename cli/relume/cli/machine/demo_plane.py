"""The plane of a demo: free ports, a temporary state folder, nothing left behind."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from relume.cli.errors import DemoFailed
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.reports import Status
from relume.cli.screen import Screen
from relume.config import Plan

MODEL = "smollm2"
POLL_S = 0.1
_TEMPLATE_WITHIN_S = 300.0


def samples() -> Path:
    """The folder of the samples, in the sources of a clone, else in the installed package."""
    import relume.config

    package = Path(relume.config.__file__).parent
    places = (package.parents[1] / "samples", package / "samples")
    for folder in places:
        if folder.is_dir():
            return folder
    raise DemoFailed(f"the samples are not in {' or '.join(map(str, places))}")


@asynccontextmanager
async def demo_plane(screen: Screen, plan: Plan) -> AsyncIterator[PlaneClient]:
    """A plane that runs `plan`, and its client; prepares the model where missing."""
    from relume.cli.machine.progress import watching
    from relume.plane.launch import check
    from relume.plane.local import LocalPlane, PlaneSettings
    from relume.runtimes.models.store import ModelStore, default_root

    store = ModelStore(default_root())
    with watching(screen, MODEL) as progress:
        await asyncio.to_thread(store.prepare, MODEL, progress)
    check(plan, store)
    with tempfile.TemporaryDirectory(prefix="relume-demo-") as state:
        settings = PlaneSettings(Path(state), port=0, broker_port=0)
        async with (
            LocalPlane(plan, settings, store).running() as plane,
            PlaneClient(plane.http) as client,
        ):
            yield client


async def reaches(
    plane: PlaneClient,
    screen: Screen,
    meanwhile: str,
    within_s: float,
    reached: Callable[[Status], bool],
) -> Status:
    """Wait until `reached` accepts the plane's status, and return it. Raises DemoFailed."""
    try:
        async with asyncio.timeout(within_s):
            with screen.spinner(meanwhile):
                while not reached(status := await plane.status()):  # noqa: ASYNC110
                    await asyncio.sleep(POLL_S)
        return status
    except TimeoutError:
        raise DemoFailed(f"still waiting after {within_s:g} s: {meanwhile}") from None


async def is_warm(plane: PlaneClient, screen: Screen) -> Status:
    """Wait until the warm template has imported vLLM. Raises DemoFailed."""
    return await reaches(
        plane, screen, "the warm template imports vLLM, once", _TEMPLATE_WITHIN_S, _warm
    )


def _warm(status: Status) -> bool:
    if status.template.state == "failed":
        raise DemoFailed("the warm template does not start; vLLM cannot be imported here")
    return status.template.state == "ready"
