"""Predictor processes on this machine: what serving wants started, as the runtime starts it.

Serving and the runtime do not know each other; this is the seam between them.
"""

import errno
import importlib.util
import logging
import random
import re
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import quote

from relume.base.errors import InvalidManifest, RelumeError
from relume.base.vocabulary import Json
from relume.config import InferenceService, Plan
from relume.config.config_objects import by_key, files_of, variables_of
from relume.config.resources import MODELS_FOLDER, Mount
from relume.plane.addresses import HOST
from relume.plane.causes import cause_of
from relume.plane.out_of_memory import ended_for_memory, oom_kills
from relume.runtimes.model_templates import ModelTemplates
from relume.runtimes.models.errors import ModelMissing
from relume.runtimes.models.store import ModelStore
from relume.runtimes.spawn import FreshLauncher, Launcher, Process, Template
from relume.serving.predictor import Probes, ServedService, StartedFrom, describe_exit

log = logging.getLogger(__name__)

# Below the ephemeral ports of Linux and macOS, so that no outgoing connection takes a port between
# `free_port` and the predictor's bind.
PORTS = range(20_000, 32_000)


#: The flags and the environment of a predictor.
Command = tuple[Sequence[str], Mapping[str, str]]


class RuntimeMissing(RelumeError):
    """vLLM is not installed, so that no model can run."""

    reason = "runtime-missing"


def check(plan: Plan, store: ModelStore) -> None:
    """Check before anything starts that every model is in the store and that vLLM is installed.

    Raises InvalidManifest at the storageUri of the first model that is not there, with the command
    that prepares it, at what a function wants and is in no file, and RuntimeMissing.
    """
    _check_functions(plan)
    for service in plan.services:
        for error in missing(service, store):
            if (at := service.storage_uri_origin) is None:
                raise error
            raise InvalidManifest(str(error), file=at.file, line=at.line, field=at.field) from None
    if plan.services and importlib.util.find_spec("vllm") is None:
        raise RuntimeMissing(
            "vLLM is not installed here: pip install 'relume[cpu]' (or 'relume[gpu]')"
        )


def _check_functions(plan: Plan) -> None:
    """Raise InvalidManifest for a Secret or ConfigMap in no file."""
    objects = by_key(plan.objects)
    for function in plan.functions:
        variables_of(function, objects)
        files_of(function, objects)


def missing(service: InferenceService, store: ModelStore) -> list[ModelMissing]:
    """The folders that a predictor of `service` reads and that are not here, its model first."""
    found: list[ModelMissing] = []
    mounted = [(mount.uri, "") for mount in service.mounts if mount.uri]
    for uri, folder in ((service.storage_uri, service.folder), *mounted):
        try:
            path = store.resolve(uri) / folder
        except ModelMissing as error:
            found.append(error)
            continue
        if not path.is_dir():
            found.append(ModelMissing(f"{uri}: there is no folder {folder} in it"))
    return found


class LocalPredictor:
    """A process of the runtime on a loopback port (`relume.serving.predictor.Predictor`)."""

    def __init__(self, process: Process, port: int, log_path: Path) -> None:
        self.pid = process.pid
        self.base_url = f"http://{HOST}:{port}"
        self.started = cast(StartedFrom, process.started)
        self.probes = Probes()
        self.phases_ms: Mapping[str, float] = {}  # the process tells them itself
        self.announced = process.announced
        self.terminate = process.terminate
        self._process = process
        self._log_path = log_path
        self._oom_kills = oom_kills()
        self._exit_code: int | None = None
        self._killed = False

    async def wait(self) -> int:
        self._exit_code = await self._process.wait()
        return self._exit_code

    def discard(self) -> None:
        """Kill it: vLLM keeps nothing, and takes more than a second to end by itself."""
        self.kill()

    def kill(self) -> None:
        self._killed = True
        self._process.kill()

    @property
    def ended_by(self) -> str | None:
        """That memory was missing, where it was; else what its log says."""
        if (code := self._exit_code) is None or self._killed:
            return None
        if (missed := ended_for_memory(code, self._oom_kills, self._log_path)) is not None:
            return missed
        cause = cause_of(code, self._log_path)
        return None if cause is None else f"{describe_exit(code)}: {cause}"


class LocalLauncher:
    """Starts the predictors of models for the serving plane."""

    def __init__(
        self,
        store: ModelStore,
        launcher: Launcher,
        files: Path | None = None,
        engines: ModelTemplates | None = None,
    ) -> None:
        """files: a private folder for what a Secret or ConfigMap holds as files.

        engines: what keeps loaded engines for the services that want it; None: nobody.
        """
        self._store = store
        self._launcher = launcher
        self._files = files
        self._engines = engines

    def commands_to_keep(self, services: Sequence[InferenceService]) -> Mapping[str, Command]:
        """Return how each service is started whose engine stays in memory at zero.

        It looks into the store, and writes the files that the service mounts.
        """
        return {
            key_of(service): self._command(service, port=0)
            for service in services
            if service.zero == "engine"
        }

    def keep(self, commands: Mapping[str, Command]) -> None:
        """Load the engines of these services, and give up all others."""
        if self._engines is None:
            for key in commands:
                log.warning("%s: no engine is kept, because there is no warm template", key)
            return
        self._engines.retire_all_but(commands)
        for key, (argv, env) in commands.items():
            self._engines.want(key, argv, env)

    async def start(self, service: InferenceService, log_path: Path) -> LocalPredictor:
        """Start a predictor for `service`, which writes its log to `log_path`.

        Raises ModelMissing when the model left the store, LaunchFailed when nothing starts.
        """
        port = free_port()
        argv, env = self._command(service, port)
        if service.zero == "engine" and self._engines is not None:
            process = await self._engines.start(
                key_of(service), argv=argv, env=env, log_path=log_path
            )
        else:
            launcher = FreshLauncher() if service.zero == "process" else self._launcher
            process = await launcher.start(argv=argv, env=env, log_path=log_path)
            if self._engines is not None:
                self._engines.give_way_to(process)
        return LocalPredictor(process, port, log_path)

    def _command(self, service: InferenceService, port: int) -> Command:
        """The flags and the environment of a predictor."""
        stored = self._store.resolve(service.storage_uri)
        folders = {MODELS_FOLDER: stored} | {
            mount.path: self._store.resolve(mount.uri)
            if mount.uri
            else self._written(service, mount)
            for mount in service.mounts
        }
        argv = [
            *("--model", str(stored / service.folder)),
            *("--served-model-name", service.name),
            *(placed(word, folders) for word in service.args),
            # Last, so that they win: the plane must find the predictor.
            *("--host", HOST),
            *("--port", str(port)),
        ]
        return argv, environment(service, port, folders)

    def _written(self, service: InferenceService, mount: Mount) -> Path:
        """Where the files of a mount are, which are written for each start."""
        assert self._files is not None
        folder = self._files / f"{service.namespace}.{service.name}" / quote(mount.path, safe="")
        for name, content in mount.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        return folder / mount.only


def key_of(service: ServedService) -> str:
    """The name of a service in its plane, NAMESPACE/NAME."""
    return f"{service.namespace}/{service.name}"


def placed(text: str, folders: Mapping[str, Path]) -> str:
    """The text with a folder of this machine in place of each path that a container would have.

    The longest path wins, and a path counts only as a whole: `/mnt/models` is not in
    `/mnt/models-2`.
    """
    paths = "|".join(re.escape(path) for path in sorted(folders, key=len, reverse=True))
    whole = rf"(?<![\w.\-/])({paths})(?![\w.\-])"
    return re.sub(whole, lambda found: str(folders[found[1]]), text)


def environment(
    service: InferenceService, port: int, folders: Mapping[str, Path]
) -> Mapping[str, str]:
    """What Knative and KServe set in a predictor's container; the manifest's own values win.

    Nothing here begins with a prefix that libraries read when they are imported: the template has
    imported them already and could not serve a predictor that needs another value.
    """
    return {
        "PORT": str(port),
        "K_SERVICE": f"{service.name}-predictor",
        "K_CONFIGURATION": f"{service.name}-predictor",
        "K_REVISION": service.revision,
        "INFERENCE_SERVICE_NAME": service.name,
        "RELUME_NAMESPACE": service.namespace,
        "RELUME_GRACE_S": f"{service.timeout_s:g}",
        **{name: placed(value, folders) for name, value in service.env.items()},
    }


def set_runtime_defaults(environment: MutableMapping[str, str]) -> None:
    """Set what the template and every predictor inherit; variables that are set stay as they are.

    Models come from the store alone: everything that a predictor needs is there before it starts.
    To look for it on a hub would cost seconds, or the start itself where there is no network.
    """
    environment.setdefault("HF_HUB_OFFLINE", "1")


def free_port() -> int:
    """A loopback port that nothing listens on now. Raises OSError when there is none."""
    for port in random.sample(PORTS, 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise
            return port
    raise OSError(errno.EADDRINUSE, "no free loopback port for a predictor")


def template_status(template: Template | None, engines: ModelTemplates | None) -> Json:
    """The templates in the plane's status, with the memory that they hold in MB (Linux only).

    A model template shares the memory of the warm template, which its `rss_mb` counts again.
    """
    if template is None or engines is None:
        return {"state": "off"}
    return {
        **template.status(),
        "rss_mb": _rss_mb(template.pid),
        "engines": [
            {**engine, "rss_mb": _rss_mb(cast(int | None, engine["pid"]))}
            for engine in engines.status()
        ],
    }


def _rss_mb(pid: int | None) -> float | None:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None
