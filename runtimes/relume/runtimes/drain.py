"""From SIGTERM to exit: finish what was accepted, refuse what comes now, then let vLLM stop.

vLLM's own handler stops the engine at once. `DrainingLoop` lets it run only when no request is in
flight any more, or 5 s before the process would be killed. While draining, new requests get 503 +
Retry-After from the middleware.
"""

import signal
from collections.abc import Callable
from typing import Any

import uvloop
from starlette.types import Scope

from relume.base.environment import number
from relume.base.vocabulary import DRAINING
from relume.runtimes.engine_end import TAKES_NONE, has_ended
from relume.runtimes.failures import AnswerFailure
from relume.runtimes.phases import PROCESS

#: Seconds between SIGTERM and SIGKILL where `RELUME_GRACE_S` does not say: Knative's default
#: `timeoutSeconds`, which is also the pod's grace period there.
DEFAULT_GRACE_S = 300.0
_LEFT_FOR_EXIT_S = 5.0
_POLL_S = 0.02
_STOPS = AnswerFailure(503, DRAINING, "this replica is shutting down; try again", True, begun=False)


class InFlight:
    """How many requests this server is answering; the middleware counts."""

    def __init__(self) -> None:
        self.requests = 0

    def __enter__(self) -> None:
        self.requests += 1

    def __exit__(self, *_: object) -> None:
        self.requests -= 1


IN_FLIGHT = InFlight()


def is_draining() -> bool:
    """Whether SIGTERM came."""
    return PROCESS.state == "draining"


def refusal(scope: Scope) -> AnswerFailure | None:
    """Return why this replica begins with no request any more, if it begins with none."""
    if is_draining():
        return _STOPS  # also when vLLM has ended the engine itself, at the end of the drain
    return TAKES_NONE if has_ended(scope) else None


class DrainingLoop(uvloop.Loop):  # type: ignore[misc]
    """An event loop whose SIGTERM and SIGINT handlers run after the drain."""

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        """Register `callback`, to be called when what was accepted has been answered."""
        if sig not in (signal.SIGTERM, signal.SIGINT):
            super().add_signal_handler(sig, callback, *args)
            return
        # Read now: a value that is no number must fail the start, not the drain.
        grace = number("RELUME_GRACE_S", DEFAULT_GRACE_S)
        super().add_signal_handler(sig, self._drain, grace, callback, args)

    def _drain(self, grace: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if is_draining():
            return  # a second signal changes nothing; only SIGKILL ends a drain early
        PROCESS.state = "draining"
        self._wait(self.time() + max(0.0, grace - _LEFT_FOR_EXIT_S), callback, args)

    def _wait(self, deadline: float, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if IN_FLIGHT.requests and self.time() < deadline:
            self.call_later(_POLL_S, self._wait, deadline, callback, args)
        else:
            callback(*args)
