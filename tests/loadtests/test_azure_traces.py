"""The parameters of Azure's traces, held to figures of the same files that are not among them."""

from itertools import pairwise
from random import Random
from statistics import mean, pstdev

import pytest
from azure_traces import CODE, CONVERSATION, TRACES, Quantiles, Trace, arrivals, scale_to

# Means and counts of the published files; the percentiles alone are parameters.
LENGTHS = [
    (CONVERSATION.prompt, 1154.7),
    (CONVERSATION.answer, 211.1),
    (CODE.prompt, 2047.8),
    (CODE.answer, 27.9),
]
BOTH = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)


@pytest.mark.parametrize(("lengths", "published"), LENGTHS)
def test_drawn_lengths_have_the_published_mean(lengths: Quantiles, published: float) -> None:
    random = Random(7)
    drawn = [lengths.at(random.random()) for _ in range(20_000)]
    assert mean(drawn) == pytest.approx(published, rel=0.06)


@pytest.mark.parametrize(
    ("lengths", "percent", "published"),
    [
        (CONVERSATION.prompt, 70, 1130),
        (CONVERSATION.answer, 85, 411),
        (CODE.prompt, 85, 3919),
        (CODE.answer, 70, 20),
    ],
)
def test_between_two_percentiles_the_lengths_are_near_those_of_the_trace(
    lengths: Quantiles, percent: float, published: float
) -> None:
    assert lengths.at(percent / 100) == pytest.approx(published, rel=0.1)


@BOTH
def test_gaps_have_the_mean_of_the_published_rate(trace: Trace) -> None:
    assert 1 / trace.gaps_s.mean() == pytest.approx(trace.rate, rel=0.06)


def test_gaps_are_as_bursty_as_published() -> None:
    # Published: the deviation of a gap is 1.09 times its mean (conversation) and 13.2 times (code).
    for trace, published in ((CONVERSATION, 1.09), (CODE, 13.2)):
        random = Random(3)
        drawn = [trace.gaps_s.at(random.random()) for _ in range(40_000)]
        assert pstdev(drawn) / mean(drawn) == pytest.approx(published, rel=0.15)


@BOTH
def test_the_week_has_seven_days_around_its_mean(trace: Trace) -> None:
    assert len(trace.week) == 7 * 8
    assert mean(trace.week) == pytest.approx(1, abs=0.01)
    assert max(trace.week) / min(trace.week) > (2 if trace is CONVERSATION else 10)


@BOTH
def test_the_number_of_requests_follows_the_rates(trace: Trace) -> None:
    rates = [(600.0, 2.0), (300.0, 0.0), (600.0, 4.0)]
    due = list(arrivals(trace, rates, Random(1)))
    assert sum(moment < 600 for moment in due) == pytest.approx(1200, rel=0.2)
    assert not any(600 < moment < 900 for moment in due)
    assert sum(moment > 900 for moment in due) == pytest.approx(2400, rel=0.2)
    assert all(before < after for before, after in pairwise(due))
    assert due[-1] <= 1500


@BOTH
def test_scaled_lengths_fit_and_keep_the_proportion(trace: Trace) -> None:
    scale, random = scale_to(trace, 320), Random(5)
    drawn = [scale.lengths(trace, random) for _ in range(5_000)]
    assert all(min(prompt, answer) >= 1 and prompt + answer <= 320 for prompt, answer in drawn)
    prompts = sorted(prompt for prompt, _ in drawn)
    expected = trace.prompt.at(0.5) * scale.factor
    assert prompts[len(prompts) // 2] == pytest.approx(expected, rel=0.1)


def test_a_context_that_holds_the_trace_changes_nothing() -> None:
    assert scale_to(CODE, 1_000_000).factor == 1
