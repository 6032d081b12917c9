"""What the engine tells after each step: that it has made one, and the time to the first token.

That time, from ready to the first token of the first request, is the last phase of a cold start.
A stat logger is vLLM's own extension point for both (`vllm.stat_logger_plugins`). It runs in the
API server, and is told of every step, also of one that gives no token, because a long prompt takes
several (vllm/v1/core/sched/scheduler.py, `update_from_output`).
"""

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from relume.runtimes.phases import PROCESS


class FirstToken(StatLoggerBase):  # type: ignore[misc]
    """Counts steps, and records `first_token` once."""

    def __init__(self, vllm_config: object, engine_index: int = 0) -> None:
        self._seen = False

    def record(
        self,
        scheduler_stats: object,
        iteration_stats: Any,
        mm_cache_stats: object = None,
        engine_idx: int = 0,
    ) -> None:
        """Take the first time to first token, in seconds, from vLLM's iteration statistics."""
        PROCESS.stepped()
        if self._seen or iteration_stats is None:
            return
        if times := getattr(iteration_stats, "time_to_first_tokens_iter", None):
            self._seen = True
            PROCESS.record("first_token", times[0] * 1000)

    def log_engine_initialized(self) -> None:
        """Do nothing; the interface asks for this method."""
