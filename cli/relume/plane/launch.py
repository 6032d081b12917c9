"""From what the serving plane wants started to what the runtime's launchers start.

The serving plane and the runtime do not know each other; this is the seam between them.
"""

import errno
import random
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Literal

from relume.config import InferenceService
from relume.runtimes.models.store import ModelStore
from relume.runtimes.spawn import Launcher, Process

HOST = "127.0.0.1"
# Below Linux's and macOS's ephemeral ports, so that no outgoing connection takes a port between
# our look at it and the predictor's bind.
PORTS = range(20_000, 32_000)


class LocalPredictor:
    """A predictor process on a loopback port (`relume.serving.predictor.Predictor`)."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.pid = process.pid
        self.base_url = f"http://{HOST}:{port}"
        self.started: Literal["template", "fresh"] = (
            "template" if process.started == "template" else "fresh"
        )

    async def wait(self) -> int:
        return await self._process.wait()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class LocalLauncher:
    """Starts predictors for the serving plane (`relume.serving.predictor.PredictorLauncher`)."""

    def __init__(self, store: ModelStore, launcher: Launcher) -> None:
        self._store = store
        self._launcher = launcher

    async def start(self, service: InferenceService, log_path: Path) -> LocalPredictor:
        """Raises ModelMissing when the model left the store, LaunchFailed when nothing starts."""
        model = self._store.resolve(service.storage_uri)
        port = free_port()
        process = await self._launcher.start(
            argv=[
                *("--model", str(model)),
                *("--served-model-name", service.name),
                *service.args,
                # Last, so that they win: the plane must find the predictor.
                *("--host", HOST),
                *("--port", str(port)),
            ],
            env=environment(service, port),
            log_path=log_path,
        )
        return LocalPredictor(process, port)


def environment(service: InferenceService, port: int) -> Mapping[str, str]:
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
        **service.env,
    }


def set_runtime_defaults(environment: MutableMapping[str, str]) -> None:
    """Set what the template and every predictor inherit; what is set already stays.

    Models come from the store alone: all that a predictor needs is there before it starts, and
    looking for it on a hub would cost seconds, or the start itself where there is no network.
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
