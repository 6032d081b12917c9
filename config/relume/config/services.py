"""An InferenceService as Relume runs it: every default filled in, every duration in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a field was written; lines count from 1."""

    file: Path
    line: int
    field: str


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """What the Knative Pod Autoscaler works with, for one revision.

    Defaults are those of Knative Serving's config-autoscaler. The fields up to
    `target_burst_capacity` have an `autoscaling.knative.dev/*` annotation; the others are set for a
    whole cluster. `min_scale` and `max_scale` (0: no bound) equal the service's replicas.
    """

    metric: Literal["concurrency", "rps"] = "concurrency"
    target: float | None = None  # None: containerConcurrency, or 100 (concurrency), 200 (rps)
    target_utilization: float = 0.70  # share of the target that is aimed for
    window_s: float = 60.0
    panic_window_percentage: float = 10.0  # of the window
    panic_threshold_percentage: float = 200.0  # of the target
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    activation_scale: int = 1
    scale_down_delay_s: float = 0.0
    scale_to_zero_pod_retention_s: float = 0.0
    target_burst_capacity: float = 211.0  # -1: no bound
    scale_to_zero_grace_s: float = 30.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0


@dataclass(frozen=True, slots=True)
class InferenceService:
    """One model behind one name (serving.kserve.io/v1beta1).

    `max_replicas` 0 is no bound and `container_concurrency` 0 too; `idle_timeout_s` 0 is off.
    `response_start_timeout_s` equals `timeout_s`, as KServe sets both from `timeout`. `annotations`
    are those of the service and its predictor together, as they reach the revision.
    """

    namespace: str
    name: str
    model_format: str
    storage_uri: str
    runtime: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    min_replicas: int = 1
    max_replicas: int = 0
    container_concurrency: int = 0
    timeout_s: float = 300.0
    response_start_timeout_s: float = 300.0
    idle_timeout_s: float = 0.0
    progress_deadline_s: float = 600.0
    autoscaling: Autoscaling = Autoscaling()
    annotations: Mapping[str, str] = field(default_factory=dict)
    generation: int = 1
    origin: Origin | None = field(default=None, compare=False)
    storage_uri_origin: Origin | None = field(default=None, compare=False)

    @property
    def revision(self) -> str:
        """The name that Knative gives the revision of this generation."""
        return f"{self.name}-predictor-{self.generation:05d}"

    @property
    def source(self) -> str:
        """The `source` attribute of every event that this service sends."""
        return f"/namespaces/{self.namespace}/inferenceservices/{self.name}"
