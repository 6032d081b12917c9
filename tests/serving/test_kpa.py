"""Checklist A14: the autoscaler's arithmetic, line by line."""

import pytest

from relume.config import Autoscaling
from relume.serving.kpa import Autoscaler, total_capacity

START = 1000.0


def loaded(spec: Autoscaling, concurrency: float, seconds: int, at: float = START) -> Autoscaler:
    """Return an autoscaler that saw a constant load for some seconds."""
    scaler = Autoscaler(spec)
    load(scaler, concurrency, seconds, at)
    return scaler


def load(scaler: Autoscaler, concurrency: float, seconds: int, at: float) -> float:
    for second in range(seconds):
        scaler.record(at + second, concurrency)
    return at + seconds - 1


def desired(scaler: Autoscaler, now: float, ready: int) -> int:
    decision = scaler.decide(now, ready)
    assert decision is not None
    return decision.desired


def test_every_default_is_config_autoscaler_s() -> None:
    """Checklist A14."""
    knobs, scaler = Autoscaling(), Autoscaler(Autoscaling())
    assert (scaler.metric, knobs.target_utilization) == ("concurrency", 0.7)
    assert scaler.target == 100.0 * 0.7
    assert (knobs.window_s, scaler.panic_window_s) == (60.0, 6.0)
    assert knobs.panic_threshold_percentage == 200.0
    assert (knobs.max_scale_up_rate, knobs.max_scale_down_rate) == (1000.0, 2.0)
    assert (knobs.activation_scale, knobs.scale_down_delay_s) == (1, 0.0)
    assert knobs.target_burst_capacity == 211.0


@pytest.mark.parametrize(
    ("metric", "limit", "target", "total"),
    [
        ("concurrency", 0, None, 100.0),
        ("concurrency", 4, None, 4.0),
        ("concurrency", 4, 10.0, 4.0),
        ("concurrency", 10, 4.0, 4.0),
        ("concurrency", 0, 7.0, 7.0),
        ("rps", 4, None, 200.0),
        ("rps", 4, 50.0, 50.0),
    ],
    ids=[
        "neither a limit nor a target",
        "a limit alone",
        "a target above the limit",
        "a target below the limit",
        "a target alone",
        "requests per second without a target",
        "requests per second, which no limit bounds",
    ],
)
def test_a_replica_s_capacity_is_the_annotation_held_below_container_concurrency(
    metric: str, limit: int, target: float | None, total: float
) -> None:
    assert total_capacity(metric, limit, target) == total


def test_the_target_never_falls_below_a_hundredth() -> None:
    assert Autoscaler(Autoscaling(target=0.01, target_utilization=0.1)).target == 0.01


@pytest.mark.parametrize(("window", "percentage", "panic"), [(60, 10, 6), (65, 10, 7), (6, 1, 1)])
def test_the_panic_window_is_rounded_to_whole_seconds(
    window: float, percentage: float, panic: float
) -> None:
    knobs = Autoscaling(window_s=window, panic_window_percentage=percentage)
    assert Autoscaler(knobs).panic_window_s == panic


def test_without_data_there_is_no_decision() -> None:
    assert Autoscaler(Autoscaling()).decide(START, 0) is None


def test_data_older_than_a_window_is_no_data() -> None:
    scaler = loaded(Autoscaling(), 10, 1)
    assert desired(scaler, START + 60, 1) == 0
    assert scaler.decide(START + 61, 1) is None


@pytest.mark.parametrize(
    ("concurrency", "replicas"), [(0.1, 1), (70, 1), (70.1, 2), (140, 2), (139, 2)]
)
def test_a14_the_stable_average_is_divided_by_the_target_and_rounded_up(
    concurrency: float, replicas: int
) -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(panic_threshold_percentage=1000), concurrency, 60)
    assert desired(scaler, START + 59, 2) == replicas


def test_panic_begins_at_twice_the_ready_replicas_and_scales_on_the_short_window() -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(), 70, 54)
    assert desired(scaler, START + 53, 1) == 1
    now = load(scaler, 210, 6, START + 54)
    decision = scaler.decide(now, 1)
    assert decision is not None
    assert (decision.panicking, decision.desired) == (True, 3)


def test_below_the_panic_threshold_only_the_long_window_counts() -> None:
    scaler = loaded(Autoscaling(), 70, 54)
    now = load(scaler, 210, 6, START + 54)
    decision = scaler.decide(now, 2)
    assert decision is not None
    assert (decision.panicking, decision.desired) == (False, 2)


def test_in_panic_the_number_never_falls_and_a_window_later_it_may() -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(), 700, 6)
    assert desired(scaler, START + 5, 1) == 10
    now = load(scaler, 70, 60, START + 6)
    assert desired(scaler, now, 10) == 10  # 60 s since the trigger: still in panic
    now = load(scaler, 70, 1, now + 1)
    assert desired(scaler, now, 10) == 5  # out of panic; down by at most half


def test_a_new_surge_extends_the_panic() -> None:
    scaler = loaded(Autoscaling(), 700, 6)
    desired(scaler, START + 5, 1)
    now = load(scaler, 700, 30, START + 6)
    desired(scaler, now, 5)
    now = load(scaler, 0, 50, now + 1)
    decision = scaler.decide(now, 10)
    assert decision is not None
    assert (decision.panicking, decision.desired) == (True, 10)


def test_the_scale_up_rate_bounds_one_step() -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(max_scale_up_rate=2), 7000, 6)
    assert desired(scaler, START + 5, 3) == 6


def test_a_scale_up_rate_just_above_one_still_adds_a_replica() -> None:
    scaler = loaded(Autoscaling(max_scale_up_rate=1.1, panic_threshold_percentage=1000), 210, 60)
    assert desired(scaler, START + 59, 2) == 3


def test_the_scale_down_rate_bounds_one_step() -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(), 1, 60)
    assert desired(scaler, START + 59, 10) == 5
    assert desired(scaler, START + 59, 3) == 1


def test_from_zero_the_first_step_is_at_least_activation_scale() -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(activation_scale=3), 1, 1)
    assert desired(scaler, START, 0) == 3


def test_activation_scale_does_not_hold_an_idle_revision() -> None:
    scaler = loaded(Autoscaling(activation_scale=3), 0, 60)
    assert desired(scaler, START + 59, 1) == 0


def test_scale_down_delay_keeps_the_largest_wish_of_the_window() -> None:
    """Checklist A14."""
    scaler = loaded(
        Autoscaling(scale_down_delay_s=30, panic_threshold_percentage=10000, window_s=6), 700, 6
    )
    assert desired(scaler, START + 5, 10) == 10
    now = load(scaler, 70, 6, START + 6)
    assert desired(scaler, now, 10) == 10
    now = load(scaler, 70, 6, START + 36)
    assert desired(scaler, now, 10) == 5


def test_scale_down_delay_never_delays_a_scale_up() -> None:
    scaler = loaded(Autoscaling(scale_down_delay_s=30), 70, 6)
    desired(scaler, START + 5, 1)
    now = load(scaler, 700, 6, START + 6)
    assert desired(scaler, now, 5) > 5


def test_requests_per_second_scale_on_their_own_target() -> None:
    spec = Autoscaling(metric="rps", target=200)
    assert desired(loaded(spec, 140, 60), START + 59, 2) == 1
    assert desired(loaded(spec, 141, 60), START + 59, 2) == 2


@pytest.mark.parametrize(
    ("burst", "ready", "excess"),
    [(0, 3, 0), (-1, 3, -1), (211, 1, -121), (211, 4, 179), (211, 0, -221)],
    ids=["never in the path", "always in the path", "too few replicas", "enough", "none ready"],
)
def test_excess_burst_capacity_says_whether_the_activator_stays(
    burst: float, ready: int, excess: int
) -> None:
    """Checklist A14."""
    scaler = loaded(Autoscaling(target_burst_capacity=burst), 10, 60)
    decision = scaler.decide(START + 59, ready)
    assert decision is not None
    assert decision.excess_burst_capacity == excess


def test_a_forgotten_revision_decides_nothing() -> None:
    scaler = loaded(Autoscaling(), 700, 60)
    desired(scaler, START + 59, 1)
    scaler.forget()
    assert scaler.decide(START + 60, 1) is None


@pytest.mark.parametrize(("ready", "spare"), [(2, 2**31 - 1), (0, -211)])
def test_a_target_of_any_size_gives_a_decision(ready: int, spare: int) -> None:
    scaler = loaded(Autoscaling(target=1e308), 0.0, 10)
    decision = scaler.decide(START + 10, ready)
    assert decision is not None and decision.excess_burst_capacity == spare
