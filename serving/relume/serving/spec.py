"""From an InferenceService to the numbers that the serving plane runs on."""

from pathlib import Path

from relume.config import InferenceService
from relume.serving.kpa import KpaSpec, total_capacity
from relume.serving.predictor import PredictorSpec
from relume.serving.scale_to_zero import ScaleSpec
from relume.serving.settings import ServingSettings
from relume.serving.timeouts import Timeouts

INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"


def kpa_spec(service: InferenceService) -> KpaSpec:
    """Return what the autoscaler decides by."""
    scaling = service.autoscaling
    return KpaSpec(
        metric=scaling.metric,
        total=total_capacity(scaling.metric, service.container_concurrency, scaling.target),
        utilization=scaling.target_utilization,
        window_s=scaling.window_s,
        panic_window_percentage=scaling.panic_window_percentage,
        panic_threshold=scaling.panic_threshold_percentage / 100,
        max_scale_up_rate=scaling.max_scale_up_rate,
        max_scale_down_rate=scaling.max_scale_down_rate,
        activation_scale=scaling.activation_scale,
        scale_down_delay_s=scaling.scale_down_delay_s,
        target_burst_capacity=scaling.target_burst_capacity,
    )


def scale_spec(service: InferenceService, settings: ServingSettings) -> ScaleSpec:
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


def timeouts(service: InferenceService) -> Timeouts:
    """Return the clocks on one request."""
    return Timeouts(
        total_s=service.timeout_s,
        response_start_s=service.response_start_timeout_s,
        idle_s=service.idle_timeout_s,
    )


def predictor_spec(service: InferenceService, log_path: Path) -> PredictorSpec:
    """Return what one process is started from."""
    return PredictorSpec(
        namespace=service.namespace,
        service=service.name,
        revision=service.revision,
        storage_uri=service.storage_uri,
        args=service.args,
        env=service.env,
        log_path=log_path,
        timeout_s=service.timeout_s,
    )
