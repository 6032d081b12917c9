"""Functions on this machine: what serving wants started, as `relume.runtimes.function` starts it.

A function's process sees what its container would see on a cluster:

- the variables of its func.yaml and of its Knative Service, with what Secrets and ConfigMaps hold;
- what Knative sets: PORT, K_SERVICE, K_CONFIGURATION, K_REVISION, and what a SinkBinding sets
  (`Bound`): K_SINK, K_CE_OVERRIDES;
- files of Secrets and ConfigMaps. No process here can have a folder `/etc/secrets` of its own, so a
  mount at `/etc/secrets` is the folder `$RELUME_MOUNTS/etc/secrets`, and a variable whose value is
  that path, or a path in it, names the real folder. A function that takes its paths from variables
  runs unchanged here and on a cluster;
- NATS_URL, the plane's own nats-server, where no variable of the function says another one.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from relume.base.vocabulary import LAUNCH_PHASES
from relume.config import Function, Plan
from relume.config.config_objects import by_key, files_of, variables_of
from relume.plane.addresses import HOST
from relume.plane.launch import free_port
from relume.plane.sink_bindings import FullName
from relume.runtimes.function.environments import EnvironmentNotMade, Environments, wanted
from relume.runtimes.function.process import FunctionProcess, start
from relume.serving.predictor import Probes, StartedFrom

log = logging.getLogger(__name__)

MOUNTS = "RELUME_MOUNTS"
_ENVIRONMENT, _PROCESS = LAUNCH_PHASES
#: What SinkBindings add to the variables of each Knative Service. It wins over the function's own.
Bound = Mapping[FullName, Mapping[str, str]]


class LocalFunction:
    """A process of a function on a loopback port (`relume.serving.predictor.Predictor`)."""

    started: StartedFrom = "fresh"

    def __init__(
        self,
        process: FunctionProcess,
        port: int,
        ready_path: str,
        environment_ms: float,
        began: float,
    ) -> None:
        """began: when the start of the process began, in monotonic seconds."""
        self.pid = process.pid
        self.base_url = f"http://{HOST}:{port}"
        self.probes = Probes(ready=ready_path, startup=None)
        self._process = process
        self._environment_ms = environment_ms
        self._began = began
        self._process_ms: float | None = None
        self.wait = process.wait
        self.terminate = process.terminate
        self.discard = process.terminate  # its own code may have something to put away
        self.kill = process.kill

    async def announced(self) -> None:
        """A function does not say that it is ready; it is asked."""
        await self.wait()

    @property
    def phases_ms(self) -> Mapping[str, float]:
        """The environment, and the time from the start of the process until it was ready.

        Serving asks for the first time when the process has become ready.
        """
        if self._process_ms is None:
            self._process_ms = (time.monotonic() - self._began) * 1000
        return {_ENVIRONMENT: self._environment_ms, _PROCESS: self._process_ms}

    @property
    def ended_by(self) -> str | None:
        return self._process.ended_by


class FunctionLauncher:
    """Starts functions for the serving plane (`relume.serving.predictor.PredictorLauncher`)."""

    def __init__(
        self, plan: Plan, environments: Environments, mounts: Path, nats_url: str, bound: Bound
    ) -> None:
        """mounts: a folder of this plane alone, for the files of Secrets and ConfigMaps."""
        self._environments = environments
        self._mounts = mounts
        self._nats_url = nats_url
        self._objects, self._bound = by_key(plan.objects), bound
        self._preparing: list[asyncio.Task[None]] = []

    def serve(self, plan: Plan, bound: Bound) -> None:
        """Start the functions of this plan from now on, whose environments are made meanwhile."""
        self._objects, self._bound = by_key(plan.objects), bound
        self.prepare(plan.functions)

    def prepare(self, functions: Sequence[Function]) -> None:
        """Make the environments of these now, so that no first event waits for one."""
        self.close()  # what is being made goes on, for whoever asks for it again
        self._preparing = [asyncio.create_task(self._prepare(each)) for each in functions]

    def close(self) -> None:
        """Ask for no environment any more."""
        for task in self._preparing:
            task.cancel()

    async def _prepare(self, function: Function) -> None:
        try:
            await self._environments.python(wanted(function.name, function.folder))
        except EnvironmentNotMade as error:
            log.warning("%s: %s", function.name, error)

    async def start(self, function: Function, log_path: Path) -> LocalFunction:
        """Start a process of `function`, which writes its log to `log_path`.

        Waits for its environment; what pip said last is in the log too. Raises EnvironmentNotMade
        and FunctionNotStarted.
        """
        asked_at = time.monotonic()
        try:
            python = await self._environments.python(wanted(function.name, function.folder))
        except EnvironmentNotMade as error:
            _write_lines(log_path, str(error).split(" | "))
            raise
        began = time.monotonic()
        port = free_port()
        process = await start(
            python,
            function.folder,
            function.invoke,
            self._variables(function, port),
            log_path,
            function.memory_bytes,
        )
        environment_ms = (began - asked_at) * 1000
        return LocalFunction(process, port, function.readiness, environment_ms, began)

    def _variables(self, function: Function, port: int) -> dict[str, str]:
        own = {
            "NATS_URL": self._nats_url,
            **variables_of(function, self._objects),
            **self._bound.get((function.namespace, function.name), {}),
        }
        root = self._mounts / f"{function.namespace}.{function.name}"
        files = files_of(function, self._objects)
        if files:
            write_mounts(root, files)
            own = {name: below(root, files, value) for name, value in own.items()}
            own[MOUNTS] = str(root)
        return own | {
            "PORT": str(port),
            "LISTEN_ADDRESS": f"{HOST}:{port}",
            "K_SERVICE": function.name,
            "K_CONFIGURATION": function.name,
            "K_REVISION": function.revision,
        }


def _write_lines(file: Path, lines: Sequence[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def below(root: Path, mounts: Mapping[PurePosixPath, object], value: str) -> str:
    """A value that is a path in a mount as the real path below `root`; any other as it is."""
    if not value.startswith("/"):
        return value
    path = PurePosixPath(value)
    if any(path == mount or mount in path.parents for mount in mounts):
        return str(root / path.relative_to("/"))
    return value


def write_mounts(root: Path, mounts: Mapping[PurePosixPath, Mapping[str, bytes]]) -> None:
    """Write the files of every mount below `root`, readable by this user alone.

    The first process of a function writes them, and a later one what has changed in Secrets and
    ConfigMaps, whose keys may be gone too; the folder of an emptyDir is kept.
    """
    for mount, files in mounts.items():
        folder = root / mount.relative_to("/")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for stale in folder.iterdir() if files else ():
            if stale.name not in files and stale.is_file():
                stale.unlink()
        for name, content in files.items():
            file = folder / name
            if not file.exists() or file.read_bytes() != content:
                file.unlink(missing_ok=True)
                file.touch(mode=0o600)
                file.write_bytes(content)


def empty_folder(folder: Path) -> Path:
    """`folder` without what a plane that was killed has left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder
