"""The windows' arithmetic; expected values from knative's own documentation of it."""

from hypothesis import given
from hypothesis import strategies as st

from relume.serving.windows import AverageWindow, MaxWindow

START = 1_000_000.0


def test_a_window_that_is_not_full_averages_over_its_part() -> None:
    window = AverageWindow(60)
    for second in range(6):
        window.record(START + second, 10)
    assert window.average(START + 5) == 10


def test_a_gap_counts_as_zeros() -> None:
    window = AverageWindow(10)
    window.record(START, 10)
    window.record(START + 4, 10)
    assert window.average(START + 4) == 4.0


def test_silence_at_the_end_averages_over_what_is_left() -> None:
    window = AverageWindow(60)
    for second in range(60):
        window.record(START + second, second)
    # 10 s later, seconds 10 to 59 are left.
    assert window.average(START + 69) == sum(range(10, 60)) / 50


def test_values_in_one_second_add_up() -> None:
    window = AverageWindow(10)
    window.record(START, 3)
    window.record(START + 0.9, 4)
    assert window.average(START + 0.95) == 7


def test_after_an_idle_window_the_first_write_begins_anew() -> None:
    window = AverageWindow(10)
    for second in range(10):
        window.record(START + second, 0)
    window.record(START + 30, 8)
    assert window.average(START + 30) == 8


def test_a_value_from_before_the_window_is_ignored() -> None:
    window = AverageWindow(10)
    window.record(START + 20, 8)
    window.record(START + 5, 100)
    assert window.average(START + 20) == 8


def test_a_window_is_empty_only_after_more_than_its_length() -> None:
    window = AverageWindow(10)
    assert window.is_empty(START)
    window.record(START, 1)
    assert not window.is_empty(START + 10)
    assert window.average(START + 10) == 0
    assert window.is_empty(START + 11)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=150), st.integers(1, 70))
def test_a_window_written_every_second_is_the_plain_mean(values: list[int], size: int) -> None:
    window = AverageWindow(size)
    for second, value in enumerate(values):
        window.record(START + second, value)
    last = values[-size:]
    assert window.average(START + len(values) - 1) == round(sum(last) / len(last), 6)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=100), st.integers(1, 40))
def test_the_max_window_is_the_plain_maximum(values: list[int], window_s: int) -> None:
    window = MaxWindow(window_s)
    size = -(-window_s // 2)
    for tick, value in enumerate(values):
        expected = max(values[max(0, tick - size + 1) : tick + 1])
        assert window.record(START + 2 * tick, value) == expected
