"""How requests become the samples that the autoscaler averages."""

import pytest

from relume.serving.reporter import FIRST, Reporter


def test_a_request_that_lasts_a_whole_second_is_a_concurrency_of_one() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.0)
    reporter.cut(1.0)
    assert reporter.cut(2.0).concurrency == 1.0


def test_the_mean_is_weighted_by_time() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.0)
    reporter.cut(1.0)
    reporter.arrive(1.5)
    reporter.leave(1.75)
    reporter.leave(2.0)
    assert reporter.cut(2.0).concurrency == pytest.approx(1.25)


def test_the_first_request_after_silence_is_told_at_once_and_not_twice() -> None:
    reporter = Reporter(0.0)
    assert reporter.arrive(0.2) is FIRST
    assert reporter.arrive(0.2) is None
    reporter.leave(0.7)
    report = reporter.cut(1.2)
    # Two requests, 0.5 s and 1 s of 1.2 s: 1.25, of which 1 is already told.
    assert report.concurrency == pytest.approx(0.25)
    assert report.requests == 1


def test_a_report_is_never_below_zero() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.9)
    reporter.leave(0.95)
    assert reporter.cut(1.0).concurrency == 0.0


def test_silence_begins_after_a_second_without_any_request() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.1)
    reporter.leave(0.2)
    reporter.cut(1.0)
    assert reporter.arrive(1.5) is None
    reporter.leave(1.6)
    reporter.cut(2.0)
    reporter.cut(3.0)
    assert reporter.arrive(3.5) is FIRST


def test_an_open_request_is_no_silence() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.0)
    for second in range(1, 10):
        reporter.cut(float(second))
    assert reporter.arrive(9.5) is None


def test_forgotten_the_next_request_is_the_first() -> None:
    reporter = Reporter(0.0)
    reporter.arrive(0.0)
    reporter.cut(1.0)
    reporter.forget()
    assert reporter.arrive(1.5) is FIRST


def test_each_metric_reads_its_own_figure() -> None:
    assert FIRST.value("concurrency") == 1.0
    reporter = Reporter(0.0)
    for _ in range(5):
        reporter.arrive(0.0)
        reporter.leave(0.5)
    report = reporter.cut(1.0)
    assert report.value("rps") == 4  # five, one of them told before
    assert report.value("concurrency") == pytest.approx(1.5)
