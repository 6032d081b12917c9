"""Durations are Go's and ISO 8601's, and nothing that only looks like them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.config.durations import go_duration, iso8601_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("100ms", 0.1),
        ("0", 0.0),
        ("-1s", -1.0),
        ("+5s", 5.0),
        (".5s", 0.5),
        ("1h0m0s", 3600.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "1d", "1 s", "s", "1e3s", "1s ", "PT1S", "-", "9999999999h", "1m30", "１s"]
)
def test_what_go_does_not_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|292 years"):
        go_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0.2S", 0.2),
        ("PT10M", 600.0),
        ("PT1H2M3.5S", 3723.5),
        ("P1D", 86400.0),
        ("P1DT1H", 90000.0),
        ("P1W", 604800.0),
        ("PT0S", 0.0),
        ("PT1,5S", 1.5),
    ],
)
def test_iso_durations_are_read(text: str, seconds: float) -> None:
    assert iso8601_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "P", "PT", "10", "10s", "-PT1S", "P1Y", "P2M", "P1Y2DT3H", "pt1s", "PT1S ", "P1H"),
        *("PT1D", "P0003-06-04T12:30:05", "PT99999999999999999999H"),
    ],
)
def test_what_has_no_fixed_length_or_is_not_iso_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|292 years|fixed length"):
        iso8601_duration(text)


@given(st.text(alphabet="0123456789.+-PTHMSDWhmsnu ", max_size=12))
def test_any_text_is_a_number_of_seconds_or_a_value_error(text: str) -> None:
    for parse in (go_duration, iso8601_duration):
        try:
            assert isinstance(parse(text), float)
        except ValueError:
            continue
