"""Rates that are observed, and what they predict."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relume.eventing.jobs.estimates import Estimates, Rate
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.state import Record, Usage

SERVICE = ServiceName("default", "smollm2")
RECORD = Record(
    id="job_a",
    service=SERVICE,
    route="/",
    tenant="t",
    owner="",
    priority="normal",
    digest="d",
    accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    state="completed",
    attempt=1,
)


def used(**figures: int) -> Record:
    return replace(RECORD, usage=Usage(**figures))


def at_a_rate(per_s: float, jobs: int = 50) -> Estimates:
    estimates = Estimates()
    for number in range(jobs):
        estimates.settled(RECORD, 100 + number / per_s, waiting=9)
    return estimates


def test_nothing_is_known_of_a_service_that_settled_nothing() -> None:
    assert Estimates().rate(SERVICE) == Rate()


@pytest.mark.parametrize("per_s", [0.1, 1, 25, 2000])
def test_the_rate_is_what_is_settled_in_a_second(per_s: float) -> None:
    assert at_a_rate(per_s).rate(SERVICE).per_s == pytest.approx(per_s)


def test_jobs_that_end_together_are_counted_together() -> None:
    estimates = Estimates()
    for number in range(200):
        estimates.settled(RECORD, 100 + number // 10, waiting=9)
    # Ten at once, every second.
    assert estimates.rate(SERVICE).per_s == pytest.approx(10, rel=0.1)


def test_a_time_in_which_nothing_waited_does_not_count() -> None:
    estimates = at_a_rate(2)
    estimates.settled(RECORD, 125, waiting=0)
    before = estimates.rate(SERVICE).per_s
    estimates.settled(RECORD, 9000, waiting=3)
    assert estimates.rate(SERVICE).per_s == before
    estimates.settled(RECORD, 9000.5, waiting=0)
    estimates.counted(SERVICE, 9001, 0)
    estimates.settled(RECORD, 20_000, waiting=3)
    assert estimates.rate(SERVICE).per_s == pytest.approx(before, rel=0.02)


def test_a_service_that_becomes_slower_is_noticed_within_two_hundred_jobs() -> None:
    estimates = at_a_rate(10)
    for number in range(200):
        estimates.settled(RECORD, 115 + number * 10, waiting=9)
    assert estimates.rate(SERVICE).per_s == pytest.approx(0.1, rel=0.1)


def test_what_other_gateways_settle_shows_in_the_queue() -> None:
    estimates = at_a_rate(2)
    for second in range(0, 61):
        estimates.counted(SERVICE, 200 + second, 1000 - 6 * second)
    assert estimates.rate(SERVICE).per_s == pytest.approx(6)


def test_a_queue_that_grows_is_no_rate() -> None:
    estimates = Estimates()
    for second in range(0, 61):
        estimates.counted(SERVICE, 200 + second, 10 + second)
    assert estimates.rate(SERVICE).per_s is None


def test_a_job_for_which_nobody_worked_says_nothing() -> None:
    estimates = Estimates()
    for number in range(9):
        estimates.settled(replace(RECORD, attempt=0, state="expired"), number / 1000, waiting=9)
    assert estimates.rate(SERVICE) == Rate()


def test_means_are_of_what_was_measured() -> None:
    estimates = Estimates()
    for run_ms, cold_start_ms in [(100, 4000), (300, 0), (200, 0)]:
        record = used(run_ms=run_ms, cold_start_ms=cold_start_ms)
        estimates.settled(record, 0, waiting=0)
    rate = estimates.rate(SERVICE)
    assert rate.run_ms == pytest.approx(200, abs=2)
    assert rate.cold_start_ms == pytest.approx(4000)


def test_a_ledger_knows_cold_starts_better() -> None:
    ledger = {SERVICE: 2500.0}
    estimates = Estimates(ledger.get)
    estimates.settled(used(cold_start_ms=4000), 0, waiting=0)
    assert estimates.rate(SERVICE).cold_start_ms == 2500
    ledger.clear()
    assert estimates.rate(SERVICE).cold_start_ms == pytest.approx(4000)


def test_a_free_slot_begins_at_once() -> None:
    starts = Estimates().starts_in_s
    assert starts(SERVICE, 0, free=1, slots=4, awake=True) == 0
    assert starts(SERVICE, 3, free=4, slots=4, awake=True) == 0
    # What comes behind the free slots waits, and nothing tells how long.
    assert starts(SERVICE, 4, free=4, slots=4, awake=True) is None


def test_a_place_in_the_queue_becomes_a_time() -> None:
    estimates = at_a_rate(2)
    assert estimates.starts_in_s(SERVICE, 9, free=0, slots=4, awake=True) == pytest.approx(5)
    assert estimates.starts_in_s(SERVICE, 9, free=-3, slots=4, awake=True) == pytest.approx(5)
    assert estimates.starts_in_s(SERVICE, 9, free=4, slots=4, awake=True) == pytest.approx(3)


def test_a_service_at_zero_makes_a_cold_start_first() -> None:
    estimates = Estimates({SERVICE: 2500.0}.get)
    assert estimates.starts_in_s(SERVICE, 0, free=4, slots=4, awake=False) == 2.5
    assert Estimates().starts_in_s(SERVICE, 0, free=4, slots=4, awake=False) is None


def test_without_a_rate_the_length_of_a_run_tells() -> None:
    estimates = Estimates()
    estimates.settled(used(run_ms=8000), 0, waiting=0)
    assert estimates.starts_in_s(SERVICE, 7, free=0, slots=4, awake=True) == pytest.approx(16)
    assert estimates.starts_in_s(SERVICE, 7, free=0, slots=0, awake=True) is None


def test_retry_after_is_whole_seconds_within_bounds() -> None:
    estimates = at_a_rate(2)
    assert [estimates.retry_after_s(SERVICE, n) for n in (0, 1, 3, 10**9)] == [1, 1, 2, 3600]
    assert Estimates().retry_after_s(SERVICE, 1) == 10
