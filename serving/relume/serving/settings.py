"""The plane's own knobs. What a manifest can say is not here."""

from dataclasses import dataclass, field

from relume.serving.revision import Backoff


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """All durations in seconds."""

    tick_s: float = 2.0
    """How often the autoscaler decides (Knative: 2 s)."""
    report_s: float = 1.0
    """How often the load is sampled (Knative: 1 s); one report per bucket of the windows."""
    probe_interval_s: float = 0.05
    """How often a starting predictor is asked whether it is ready; adds half of it to a cold start
    on average."""
    probe_timeout_s: float = 1.0
    """An engine that loads may hold the interpreter; a probe that waits longer is asked again."""
    abandon_after_s: float = 2.0
    """How long a load goes on after the last client that waited for it went away. Long enough for
    a broker's first retries (0.2 to 1.6 s) to find it still loading, short enough to matter."""
    terminate_grace_s: float = 10.0
    """From SIGTERM to SIGKILL for a predictor without requests."""
    unlimited_replicas: int = 4
    """What maxReplicas 0 (without limit) means on one machine, which has no nodes to add. A
    maxReplicas that the manifest names is kept as it is."""
    keepalive_s: float = 4.0
    """How long an idle connection to a predictor is kept: below uvicorn's 5 s, so that the
    predictor never closes a connection that a request is just being written to."""
    body_high_water: int = 4 * 2**20
    """Bytes of a request body that are read ahead while the request is held."""
    body_limit: int = 64 * 2**20
    """Largest body, in bytes, in which /openai/v1 looks for the model."""
    log_tail_lines: int = 20
    """How much of a failed predictor's log the status shows."""
    backoff: Backoff = field(default_factory=Backoff)
