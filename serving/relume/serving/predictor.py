"""What the plane needs of a predictor process and of whatever starts one.

A predictor answers GET /health with 200 once it can infer and 503 before, and GET /startup with
200 as soon as its port is open: {"state": "loading"|"ready", "phase": str, "phases_ms": {...}}.
SIGTERM lets it finish what it has accepted and exit 0.
"""

from pathlib import Path
from typing import Literal, Protocol

from relume.config import InferenceService

StartedFrom = Literal["template", "fresh"]


class Predictor(Protocol):
    """One running predictor process."""

    @property
    def pid(self) -> int: ...

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT`; the port may not be open yet."""
        ...

    @property
    def started(self) -> StartedFrom:
        """Whether it was forked from the warm template or started from nothing."""
        ...

    async def wait(self) -> int:
        """Return the exit code, negative for a signal; may be awaited more than once."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM; nothing if it is gone."""
        ...

    def kill(self) -> None:
        """Send SIGKILL; nothing if it is gone."""
        ...


class PredictorLauncher(Protocol):
    """Starts predictor processes."""

    async def start(self, service: InferenceService, log_path: Path) -> Predictor:
        """Start a process and return at once, before it is ready.

        Its stdout and stderr go to `log_path`. `service.timeout_s` is the longest that a request
        may take, and so the longest drain.

        Raises RelumeError when it cannot be started. Cancelled, it leaves no process behind.
        """
        ...
