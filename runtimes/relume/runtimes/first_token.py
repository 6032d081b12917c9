"""The last phase of a cold start: from ready to the first token of the first request.

A stat logger is vLLM's own extension point for this (`vllm.stat_logger_plugins`); it runs in the
API server and is told of each request's time to first token, streamed or not.
"""

from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from relume.runtimes.phases import PROCESS


class FirstToken(StatLoggerBase):  # type: ignore[misc]
    """Records `first_token` once, then ignores what it is told."""

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
        if self._seen or iteration_stats is None:
            return
        if times := getattr(iteration_stats, "time_to_first_tokens_iter", None):
            self._seen = True
            PROCESS.record("first_token", times[0] * 1000)

    def log_engine_initialized(self) -> None:
        """Do nothing; the interface asks for this method."""
