"""Whether the engine of a predictor hangs: requests run in it, and it makes no step. Pure.

vLLM's server tells after each step of its engine, also after one that is part of a long prompt and
gives no token, so a slow prefill is no hang as long as one step takes less than the limit
(`runtimes/first_token.py`). vLLM itself ends a step that takes longer than
VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS (300 s), but only where its workers are processes of their own
(vllm/v1/executor/multiproc_executor.py); its `/health` asks whether the engine's process is there.
"""

from dataclasses import dataclass

# Looks within the limit, and the bounds of the time between two of them in seconds.
_LOOKS = 10
_LEAST_S, _MOST_S = 0.5, 10.0


@dataclass(frozen=True, slots=True)
class Work:
    """What an engine has done since it started, and what it has to do."""

    steps: int
    running: int
    """How many requests it was given and has not answered."""


class Watch:
    """Counts the time without a step in which requests ran, over one request and the next."""

    def __init__(self, limit_s: float) -> None:
        """limit_s: so long may a step take; 0: the engine is not watched."""
        self._limit_s = limit_s
        self._work: Work | None = None
        self._busy_since: float | None = None
        self._without_s = 0.0

    @property
    def every_s(self) -> float | None:
        """How long to wait between two looks; None: no look is needed."""
        if self._limit_s == 0:
            return None
        return min(max(self._limit_s / _LOOKS, _LEAST_S), _MOST_S)

    def look(self, now: float, work: Work | None, *, busy: bool) -> str | None:
        """Return in words that the engine hangs, or None.

        work: None where the server did not answer, which counts as no step, or where it tells
        nothing of its engine, which is not watched then. busy: requests are with the server.
        """
        if work is not None and (self._work is None or work.steps != self._work.steps):
            self._without_s = 0.0
        elif self._busy_since is not None:
            self._without_s += now - self._busy_since
        self._work = work or self._work
        runs = busy and self._work is not None and (work is None or work.running > 0)
        self._busy_since = now if runs else None
        if not runs or self._limit_s == 0 or self._without_s < self._limit_s:
            return None
        if work is None:
            return f"the server gave no answer to probes for {self._without_s:.0f} s"
        requests = "request" if work.running == 1 else "requests"
        return (
            f"the engine made no step for {self._without_s:.0f} s, with {work.running} {requests} "
            "to answer"
        )
