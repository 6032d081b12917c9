"""What the plane needs of a service, of its processes, and of whatever starts them.

Serving does not know what a process does. It asks it on the paths of its `Probes`: `ready` answers
200 once the process can answer requests, and something else before. `startup`, where there is one,
answers 200 as soon as the port is open: {"state": "loading"|"ready", "phase": str,
"phases_ms": {...}}. SIGTERM lets a process finish what it has accepted and exit 0.
"""

import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from relume.config import Autoscaling

StartedFrom = Literal["engine", "template", "fresh"]


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """The name of an InferenceService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServedService(Protocol):
    """One revision behind one name; the fields are those of `relume.config.InferenceService`."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def args(self) -> tuple[str, ...]: ...
    @property
    def min_replicas(self) -> int: ...
    @property
    def max_replicas(self) -> int: ...
    @property
    def container_concurrency(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def response_start_timeout_s(self) -> float: ...
    @property
    def idle_timeout_s(self) -> float: ...
    @property
    def progress_deadline_s(self) -> float: ...
    @property
    def autoscaling(self) -> Autoscaling: ...
    @property
    def annotations(self) -> Mapping[str, str]: ...
    @property
    def canary_percent(self) -> int | None:
        """The share of the newest revision, beside the one before; None: all requests."""
        ...

    @property
    def is_model(self) -> bool:
        """Whether /openai/v1 lists it and sends it the requests that name it."""
        ...


@dataclass(frozen=True, slots=True)
class Probes:
    """The paths on which a process is asked; `startup` is None where it tells no phases."""

    ready: str = "/health"
    startup: str | None = "/startup"


class Predictor(Protocol):
    """One running process of a service."""

    @property
    def pid(self) -> int: ...

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT`; the port may not be open yet."""
        ...

    @property
    def started(self) -> StartedFrom:
        """What it was forked from: a loaded engine, the warm template, or nothing."""
        ...

    @property
    def probes(self) -> Probes: ...

    @property
    def phases_ms(self) -> Mapping[str, float]:
        """What its launcher has measured of its start until now, beside what it tells itself."""
        ...

    @property
    def ended_by(self) -> str | None:
        """Why its end came, in words, where its launcher knows more than the exit code says."""
        ...

    async def wait(self) -> int:
        """Return the exit code, negative for a signal; may be awaited more than once."""
        ...

    async def announced(self) -> None:
        """Return when the process says that it is ready, or ended; never where it cannot say.

        A probe is sent then, and not only when the next one is due.
        """
        ...

    def terminate(self) -> None:
        """Send SIGTERM; nothing if it is gone."""
        ...

    def discard(self) -> None:
        """End it where it runs no request, as soon as that loses nothing."""
        ...

    def kill(self) -> None:
        """Send SIGKILL; nothing if it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that stays in memory while services are at zero, so that they start sooner."""

    name: str
    """What it is, in words: `the warm template`."""
    service: str | None
    """The service that is started from it (`NAMESPACE/NAME`); None: any."""
    bytes: int
    last_used: float
    """Monotonic seconds."""
    in_use: bool = False
    """Processes depend on it, so that it cannot be dropped."""


class PredictorLauncher(Protocol):
    """Starts the processes of services, and knows what they need."""

    async def start(self, service: ServedService, log_path: Path) -> Predictor:
        """Start a process and return at once, before it is ready.

        Its stdout and stderr go to `log_path`. `service.timeout_s` is the longest that a request
        may take, and so the longest drain.

        Raises RelumeError when it cannot be started. Cancelled, it leaves no process behind.
        """
        ...

    def memory_bytes(self, service: ServedService) -> int:
        """Return what one process needs: an estimate, and once one was loaded what it held."""
        ...

    async def measure(self, loaded: Collection[int]) -> None:
        """Look how much memory each process and everything that is kept holds now.

        loaded: the processes that hold all that they need by now. What was measured of the others
        may make a need larger, and never smaller than its estimate.

        Returns once `memory_bytes` and `kept` know it.
        """
        ...

    def kept(self) -> Sequence[Kept]:
        """Return what is held while services are at zero."""
        ...

    async def drop(self, kept: Kept) -> None:
        """Give up what is kept, and return when its memory is free. It does not come back."""
        ...


def describe_exit(code: int) -> str:
    """Return a sentence about an exit code; a negative one is a signal."""
    if code >= 0:
        return f"the predictor exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the predictor was killed by {name}"
