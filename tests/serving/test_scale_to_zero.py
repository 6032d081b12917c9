"""Checklist A9 and A15: the rules around zero, under a clock that is a number."""

from relume.serving.scale_to_zero import Activity, Scaler, ScaleSpec

PROXIED = -1
DIRECT = 0


class Run:
    """A scaler stepped every 2 s, as the plane does."""

    def __init__(self, spec: ScaleSpec) -> None:
        self.now = 0.0
        self.scaler = Scaler(spec, 0.0)

    def steps(
        self, seconds: float, wish: int | None, ready: int, burst: int = PROXIED
    ) -> int | None:
        """Step until `seconds` have gone by; return the last scale that was applied, if any."""
        applied = None
        until = self.now + seconds
        while self.now < until:
            self.now += 2
            scale = self.scaler.step(self.now, wish, burst, ready)
            applied = applied if scale is None else scale
        return applied

    def until_zero(self, ready: int, burst: int = PROXIED) -> float:
        """Step with nothing to do until zero is applied; return how long that took."""
        since = self.now
        while self.steps(2, 0, ready, burst) != 0:
            assert self.now - since < 4000
        return self.now - since


AT_ZERO = ScaleSpec(initial_scale=0)


def active(spec: ScaleSpec = AT_ZERO, burst: int = PROXIED, for_s: float = 100) -> Run:
    run = Run(spec)
    run.steps(2, 1, 0, burst)
    run.steps(for_s, 1, 1, burst)
    assert run.scaler.activity is Activity.ACTIVE
    return run


def test_a_service_that_starts_at_zero_stays_there() -> None:
    run = Run(AT_ZERO)
    assert run.steps(1000, None, 0) is None
    assert run.scaler.activity is Activity.INACTIVE


def test_a_wish_is_applied_and_activates() -> None:
    """Checklist A17."""
    run = Run(AT_ZERO)
    assert run.steps(2, 1, 0) == 1
    assert run.scaler.activity is Activity.ACTIVATING


def test_idle_and_already_proxied_goes_to_zero_without_a_grace() -> None:
    assert active().until_zero(1) == 4  # one tick to become inactive, one to go


def test_idle_and_not_proxied_waits_for_the_grace_period() -> None:
    assert active(burst=DIRECT).until_zero(1, DIRECT) == 32


def test_a_replica_is_kept_until_it_was_active_for_a_window() -> None:
    run = active(for_s=10)
    assert run.steps(48, 0, 1) == 1
    assert run.until_zero(1) <= 8


def test_the_last_replica_is_retained_as_long_as_asked() -> None:
    spec = ScaleSpec(initial_scale=0, retention_s=100)
    assert active(spec).until_zero(1) == 102


def test_retention_shorter_than_the_grace_counts_where_the_activator_was_in_the_path() -> None:
    spec = ScaleSpec(initial_scale=0, retention_s=10)
    assert active(spec).until_zero(1) == 12


def test_a_request_during_the_grace_period_makes_it_active_again() -> None:
    run = active(burst=DIRECT)
    run.steps(10, 0, 1, DIRECT)
    assert run.scaler.activity is Activity.INACTIVE
    assert run.steps(2, 1, 1, DIRECT) == 1
    assert run.scaler.activity is Activity.ACTIVE
    assert run.until_zero(1, DIRECT) >= 60


def test_while_activating_with_demand_nothing_scales_down() -> None:
    run = Run(AT_ZERO)
    assert run.steps(5000, 1, 0) == 1
    assert run.scaler.activity is Activity.ACTIVATING


def test_a_load_without_demand_ends_thirty_seconds_after_the_progress_deadline() -> None:
    run = Run(AT_ZERO)
    run.steps(2, 1, 0)
    assert run.until_zero(0) == 630
    assert run.scaler.timed_out


def test_a_first_deployment_without_traffic_has_the_same_clock() -> None:
    run = Run(ScaleSpec(initial_scale=1))
    assert run.scaler.activity is Activity.ACTIVATING
    assert run.steps(628, None, 0) is None
    assert run.steps(2, None, 0) == 0
    assert run.scaler.timed_out


def test_the_progress_deadline_is_the_service_s_own() -> None:
    run = Run(ScaleSpec(initial_scale=0, progress_deadline_s=60))
    run.steps(2, 1, 0)
    assert run.until_zero(0) == 90


def test_after_a_timeout_the_next_request_activates_again() -> None:
    run = Run(AT_ZERO)
    run.steps(2, 1, 0)
    run.until_zero(0)
    assert run.steps(2, 1, 0) == 1
    assert not run.scaler.timed_out


def test_bounds_hold_before_anything_about_zero() -> None:
    """Checklist A14."""
    run = Run(ScaleSpec(min_scale=2, max_scale=3))
    assert run.steps(2, 0, 2) == 2
    assert run.steps(2, 9, 2) == 3
    assert run.steps(500, 0, 2) == 2


def test_max_scale_zero_is_no_limit() -> None:
    assert Run(AT_ZERO).steps(2, 500, 0) == 500


def test_initial_scale_above_one_holds_until_it_was_reached_once() -> None:
    run = Run(ScaleSpec(initial_scale=3))
    assert run.steps(2, 1, 1) == 3
    assert run.steps(2, 1, 3) == 3
    assert run.steps(2, 1, 3) == 1


def test_after_a_crash_the_scaler_is_inactive() -> None:
    run = active()
    run.scaler.forget(run.now)
    assert run.steps(100, None, 0) is None
    assert run.scaler.activity is Activity.INACTIVE


def test_an_initial_scale_that_is_out_of_reach_is_given_up_after_the_progress_deadline() -> None:
    """Memory for one of two must not keep that one there for ever."""
    run = Run(ScaleSpec(initial_scale=2))
    assert run.steps(600, None, 1) == 2
    assert 0 < run.until_zero(1) < 120
