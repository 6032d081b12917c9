"""What of a manifest reaches the plane, and every default of the plane's own."""

from relume.config import Autoscaling
from relume.serving import settings as spec
from relume.serving.kpa import Autoscaler
from relume.serving.revision import Backoff
from relume.serving.scale_to_zero import ScaleSpec
from relume.serving.settings import ServingSettings
from relume.serving.timeouts import Timeouts

from .conftest import service

SETTINGS = ServingSettings()


def test_every_default_of_the_plane() -> None:
    assert (
        ServingSettings(
            tick_s=2.0,
            report_s=1.0,
            probe_interval_s=0.05,
            probe_timeout_s=1.0,
            abandon_after_s=2.0,
            terminate_grace_s=10.0,
            unlimited_replicas=4,
            keepalive_s=4.0,
            body_high_water=4 * 2**20,
            body_limit=64 * 2**20,
            log_tail_lines=20,
            backoff=Backoff(first_s=1.0, max_s=60.0, stable_s=10.0),
        )
        == SETTINGS
    )


def test_a_service_without_annotations_has_knative_s_defaults() -> None:
    assert spec.timeouts(service()) == Timeouts(300, 300, 0)


def test_the_annotations_of_the_autoscaler_and_the_limit_make_its_target() -> None:
    scaling = Autoscaling(
        metric="rps",
        target=50,
        target_utilization=0.5,
        window_s=30,
        panic_window_percentage=20,
    )
    scaler = Autoscaler(scaling, 4)
    assert (scaler.metric, scaler.target, scaler.panic_window_s) == ("rps", 25, 6)
    assert Autoscaler(Autoscaling(target=50, target_utilization=0.5), 4).target == 2


def test_the_periods_around_zero_arrive() -> None:
    scaling = Autoscaling(
        window_s=30,
        scale_to_zero_grace_s=5,
        scale_to_zero_pod_retention_s=7,
        target_burst_capacity=-1,
    )
    config = service(autoscaling=scaling, progress_deadline_s=60, max_replicas=2)
    assert spec.scale_spec(config, SETTINGS) == ScaleSpec(
        min_scale=0,
        max_scale=2,
        initial_scale=0,
        window_s=30,
        grace_s=5,
        retention_s=7,
        progress_deadline_s=60,
        always_proxied=True,
    )


def bounds(**changes: object) -> tuple[int, int, int]:
    found = spec.scale_spec(service(**changes), SETTINGS)
    return found.min_scale, found.max_scale, found.initial_scale


def test_without_a_minimum_a_service_starts_at_zero() -> None:
    assert bounds() == (0, 4, 0)


def test_with_a_minimum_it_starts_there() -> None:
    assert bounds(min_replicas=2, max_replicas=3) == (2, 3, 1)
    assert bounds(min_replicas=6) == (6, 6, 1)


def test_its_own_annotation_asks_for_more_within_the_maximum() -> None:
    asked = {"autoscaling.knative.dev/initial-scale": "3"}
    scaling = Autoscaling(initial_scale=3)
    assert bounds(annotations=asked, autoscaling=scaling) == (0, 4, 3)
    assert bounds(annotations=asked, autoscaling=scaling, max_replicas=2) == (0, 2, 2)
