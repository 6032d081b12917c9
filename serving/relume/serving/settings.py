"""The numbers that the serving plane runs on: its own knobs, and what an InferenceService says."""

from dataclasses import dataclass, field

from relume.base.vocabulary import INITIAL_SCALE
from relume.config.waiting import waiting
from relume.serving.predictor import ServedService
from relume.serving.revision import Backoff
from relume.serving.room import Rules
from relume.serving.scale_to_zero import ScaleSpec
from relume.serving.timeouts import Timeouts

#: When a client is told to try again where nothing tells how long a start takes.
UNKNOWN_S = 10.0


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """What no manifest can say. All durations in seconds."""

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
    ends_within_s: float = 5.0
    """How long a replica that takes no request any more may live, before another is started."""
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
    memory_bytes: int | None = None
    """What all predictors, functions and templates may hold together. None: nothing is bounded."""
    memory: Rules = field(default_factory=Rules)
    """How services share it."""
    measure_s: float = 10.0
    """How often the memory that processes hold is measured, where it is bounded."""
    loaded_after_s: float = 10.0
    """How long a process must have been ready to hold all that it needs: an engine on a CPU fills
    its KV cache some seconds after its start."""


def scale_spec(service: ServedService, settings: ServingSettings) -> ScaleSpec:
    """Return the bounds and periods.

    Knative would start one replica at deployment and take it away after a window; here a service
    with minReplicas 0 starts at zero, as with `allow-zero-initial-scale` and initial-scale 0,
    unless its own annotation asks for more.
    """
    scaling = service.autoscaling
    asked = service.annotations.get(INITIAL_SCALE)
    initial = scaling.initial_scale if asked is not None else min(service.min_replicas, 1)
    most = service.max_replicas or max(settings.unlimited_replicas, service.min_replicas, initial)
    return ScaleSpec(
        min_scale=service.min_replicas,
        max_scale=most,
        initial_scale=min(initial, most),
        window_s=scaling.window_s,
        grace_s=scaling.scale_to_zero_grace_s,
        retention_s=scaling.scale_to_zero_pod_retention_s,
        progress_deadline_s=service.progress_deadline_s,
        always_proxied=scaling.target_burst_capacity == -1,
    )


def hang_after_s(service: ServedService) -> float:
    """Return how long a step of the engine may take; 0: for ever.

    Without the annotation that is as long as a request may take: an engine that needs more for one
    step can answer none.
    """
    asked = waiting(service.annotations).hang_after_s
    return service.timeout_s if asked is None else float(asked)


def timeouts(service: ServedService) -> Timeouts:
    """Return the clocks on one request."""
    return Timeouts(
        total_s=service.timeout_s,
        response_start_s=service.response_start_timeout_s,
        idle_s=service.idle_timeout_s,
    )
