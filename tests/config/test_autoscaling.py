"""Autoscaling annotations have Knative's ranges, messages and defaults."""

from dataclasses import replace
from pathlib import Path

import pytest

from relume.config import Autoscaling
from tests.knative_settings import SHIPPED

from .manifests import HERE, annotated, load_text, refused, service


def read(tmp_path: Path, text: str) -> Autoscaling:
    return load_text(tmp_path, text).services[0].autoscaling


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        ("metric", "rps", {"metric": "rps"}),
        ("target", "'0.01'", {"target": 0.01}),
        ("target", "'150'", {"target": 150.0}),
        ("target-utilization-percentage", "'70'", {"target_utilization": 0.70}),
        ("target-utilization-percentage", "'1'", {"target_utilization": 0.01}),
        ("target-burst-capacity", "'-1'", {"target_burst_capacity": -1.0}),
        ("target-burst-capacity", "'0'", {"target_burst_capacity": 0.0}),
        ("window", "6s", {"window_s": 6.0}),
        ("window", "1h", {"window_s": 3600.0}),
        ("panic-window-percentage", "'1'", {"panic_window_percentage": 1.0}),
        ("panic-threshold-percentage", "'110'", {"panic_threshold_percentage": 110.0}),
        ("initial-scale", "'0'", {"initial_scale": 0}),
        ("activation-scale", "'2'", {"activation_scale": 2}),
        ("scale-down-delay", "15m", {"scale_down_delay_s": 900.0}),
        ("scale-to-zero-pod-retention-period", "1m5.5s", {"scale_to_zero_pod_retention_s": 65.5}),
        ("class", "kpa.autoscaling.knative.dev", {}),
        ("metric-aggregation-algorithm", "linear", {}),
        ("scaleDownDelay", "15m", {"scale_down_delay_s": 900.0}),
        ("targetUtilizationPercentage", "'80'", {"target_utilization": 0.80}),
    ],
)
def test_each_annotation_sets_its_field(
    tmp_path: Path, annotation: str, value: str, expected: dict[str, object]
) -> None:
    found = read(tmp_path, annotated(**{annotation: value}))
    assert found == replace(Autoscaling(min_scale=1), **expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        ("metric", "tokens", "invalid value: tokens"),
        ("metric", "cpu", "not honoured on this machine: cpu"),
        ("class", "hpa.autoscaling.knative.dev", "only kpa.autoscaling.knative.dev is"),
        ("target", "'0'", "target 0 should be at least 0.01"),
        ("target", "'ten'", "invalid value: ten"),
        ("target", "'NaN'", "invalid value: NaN"),
        ("target", "'1e999'", "invalid value: 1e999"),
        ("target", "10", 'must be a string, not the integer 10: write "10"'),
        ("target-utilization-percentage", "'0.7'", "expected 1 <= 0.7 <= 100"),
        ("target-utilization-percentage", "'101'", "expected 1 <= 101 <= 100"),
        ("target-burst-capacity", "'-2'", "invalid value: -2"),
        ("window", "5s", "expected 6s <= 5s <= 1h0m0s"),
        ("window", "2h", "expected 6s <= 2h <= 1h0m0s"),
        ("window", "6500ms", "must be specified with at most second precision"),
        ("window", "'60'", "invalid value: 60"),
        ("window", "1d", "invalid value: 1d"),
        ("panic-window-percentage", "'0.5'", "expected 1 <= 0.5 <= 100"),
        ("panic-threshold-percentage", "'100'", "expected 110 <= 100 <= 1000"),
        ("min-scale", "'-1'", "expected 0 <= -1 <= 2147483647"),
        ("max-scale", "'2147483648'", "expected 0 <= 2147483648 <= 2147483647"),
        ("max-scale", "'1.0'", "invalid value: 1.0"),
        ("initial-scale", "'-1'", "expected 0 <= -1"),
        ("activation-scale", "'1'", "activation-scale=1 must be greater than 1"),
        ("scale-down-delay", "61m", "expected 0s <= 61m <= 1h0m0s"),
        ("scale-down-delay", "1.5s", "at most second precision"),
        ("scale-to-zero-pod-retention-period", "2h", "expected 0s <= 2h <= 1h0m0s"),
        ("metric-aggregation-algorithm", "median", "invalid value: median"),
        ("scale-up-delay", "5s", "Knative would ignore it; did you mean scale-down-delay?"),
        ("scaleToZeroGracePeriod", "5s", "no such annotation"),
        ("windows", "10s", "did you mean window?"),
    ],
)
def test_a16_what_knative_refuses_or_silently_ignores_is_refused(
    tmp_path: Path, annotation: str, value: str, message: str
) -> None:
    """Checklist A16."""
    text = annotated(**{annotation: value})
    refused(tmp_path, text, f"metadata.annotations.autoscaling.knative.dev/{annotation}", message)


def test_more_least_than_most_in_annotations_is_refused(tmp_path: Path) -> None:
    text = annotated(min_scale="'3'", max_scale="'2'")
    field = "metadata.annotations.autoscaling.knative.dev/max-scale"
    refused(tmp_path, text, field, "max-scale=2 is less than min-scale=3")


def test_an_annotation_of_the_predictor_is_named_where_it_stands(tmp_path: Path) -> None:
    text = service(f"annotations:\n  autoscaling.knative.dev/window: 1s  {HERE}")
    field = "spec.predictor.annotations.autoscaling.knative.dev/window"
    refused(tmp_path, text, field, "expected 6s <= 1s")


def test_replica_fields_win_over_scale_annotations_which_kserve_drops(tmp_path: Path) -> None:
    domain = "autoscaling.knative.dev/"
    metadata = f"annotations: {{{domain}min-scale: '2', {domain}maxScale: '5'}}"
    plan = load_text(tmp_path, service("minReplicas: 0", metadata=metadata))
    (found,) = plan.services
    assert (found.min_replicas, found.autoscaling.min_scale) == (0, 0)
    assert (found.max_replicas, found.autoscaling.max_scale) == (5, 5)
    why = {note.field.rsplit("/")[-1]: note.why for note in plan.not_honoured}
    assert why == {
        "min-scale": "KServe drops it: write spec.predictor.minReplicas",
        "maxScale": "counts here, but KServe drops it: write spec.predictor.maxReplicas",
    }
    assert f"{domain}max-scale" in found.annotations, "annotations have one spelling"


def test_the_defaults_are_those_that_knative_ships() -> None:
    shipped = SHIPPED["autoscaler"]
    ours = Autoscaling()
    assert (
        float(shipped["container-concurrency-target-percentage"]) == ours.target_utilization * 100
    )
    assert float(shipped["target-burst-capacity"]) == ours.target_burst_capacity
    assert shipped["stable-window"] == f"{ours.window_s:g}s"
    assert float(shipped["panic-window-percentage"]) == ours.panic_window_percentage
    assert float(shipped["panic-threshold-percentage"]) == ours.panic_threshold_percentage
    assert float(shipped["max-scale-up-rate"]) == ours.max_scale_up_rate
    assert float(shipped["max-scale-down-rate"]) == ours.max_scale_down_rate
    assert shipped["scale-to-zero-grace-period"] == f"{ours.scale_to_zero_grace_s:g}s"
    assert shipped["scale-to-zero-pod-retention-period"] == (
        f"{ours.scale_to_zero_pod_retention_s:g}s"
    )
    assert int(shipped["initial-scale"]) == ours.initial_scale
    assert (int(shipped["min-scale"]), int(shipped["max-scale"])) == (
        ours.min_scale,
        ours.max_scale,
    )
    assert shipped["scale-down-delay"] == f"{ours.scale_down_delay_s:g}s"
