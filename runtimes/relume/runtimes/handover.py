"""What the launcher leaves for the endpoint plugin, which vLLM itself creates in this process."""

from relume.runtimes.gatekeeper import Gatekeeper
from relume.runtimes.phases import PROCESS, monotonic_ms

#: Set by the launcher; None when plain `vllm serve` loaded our plugin.
gatekeeper: Gatekeeper | None = None
engine_started_ms: float = 0.0
_engine_answers_ms: float = 0.0


def engine_answers() -> None:
    """The engine core is up (vLLM builds its routes now): what is not weights or warm-up, is it."""
    global _engine_answers_ms
    _engine_answers_ms = monotonic_ms()
    known = sum(PROCESS.get(phase) or 0.0 for phase in ("config", "weights", "warmup"))
    PROCESS.record("engine", _engine_answers_ms - engine_started_ms - known)
    PROCESS.enter("warmup")


def server_answers() -> None:
    """vLLM's server is about to accept: end the gatekeeper and say ready."""
    global gatekeeper
    PROCESS.record("warmup", (PROCESS.get("warmup") or 0.0) + monotonic_ms() - _engine_answers_ms)
    PROCESS.enter("first_token")
    PROCESS.state = "ready"
    if gatekeeper is not None:
        gatekeeper.dismiss()
        gatekeeper = None
