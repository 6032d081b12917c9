"""The headers that ask something for a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import Limits
from relume.eventing.jobs.preferences import AsyncPreference
from relume.eventing.jobs.wishes import (
    InvalidHeader,
    Wishes,
    duration_s,
    kept_headers,
    priority_of_tier,
    wishes_of,
)

SETTINGS = DoorSettings()
DAY_S = 86_400.0


def test_without_headers_the_defaults_hold() -> None:
    assert wishes_of([("accept", "*/*")], SETTINGS) == Wishes(None, None, Limits())


def test_every_header_is_read() -> None:
    headers = [
        ("idempotency-key", "k 1"),
        ("relume-priority", "HIGH"),
        ("relume-queue-timeout", "5m"),
        ("relume-start-timeout", " 90 "),
        ("relume-run-timeout", "2h"),
        ("relume-keep", "1d"),
        ("relume-max-attempts", "1"),
    ]
    assert wishes_of(headers, SETTINGS) == Wishes(
        "k 1", "high", Limits(300.0, 90.0, 7200.0, DAY_S, 1)
    )


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("Idempotency-Key", "", "give every request a key of its own"),
        ("Idempotency-Key", "  ", "give every request a key of its own"),
        ("Idempotency-Key", "k" * 2**20, "at most 512"),
        ("Idempotency-Key", "a\0b", "control characters"),
        ("Relume-Priority", "urgent", "high, normal or low"),
        ("Relume-Priority", "", "high, normal or low"),
        ("Relume-Queue-Timeout", "0", "1s to 30d"),
        ("Relume-Start-Timeout", "31d", "1s to 30d"),
        ("Relume-Run-Timeout", "5 m", "as in 90s"),
        ("Relume-Run-Timeout", "-5", "as in 90s"),
        ("Relume-Keep", "forever", "as in 90s"),
        ("Relume-Keep", "٣", "as in 90s"),  # a digit, and none of ours
        ("Relume-Max-Attempts", "0", "1 to 20"),
        ("Relume-Max-Attempts", "21", "1 to 20"),
        ("Relume-Max-Attempts", "two", "1 to 20"),
        ("relume-max-attempt", "1", "write one of Relume-Priority, "),
    ],
)
def test_a_refusal_names_the_header_and_the_fix(name: str, value: str, fix: str) -> None:
    with pytest.raises(InvalidHeader) as refused:
        wishes_of([(name.lower(), value)], SETTINGS)
    text = str(refused.value)
    assert text.startswith(f"{name}: ") and fix in text
    assert len(text) < 300 and text.isprintable()


def test_a_header_that_is_given_twice_is_refused() -> None:
    twice = [("relume-keep", "1h"), ("relume-keep", "1h")]
    with pytest.raises(InvalidHeader, match=r"Relume-Keep: it is given 2 times: send it once"):
        wishes_of(twice, SETTINGS)


@given(st.integers(1, 999_999_999), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("h", 3600)]))
def test_a_duration_is_its_number_times_its_unit_or_out_of_range(
    number: int, unit: tuple[str, int]
) -> None:
    seconds = number * unit[1]
    if seconds <= 30 * DAY_S:
        assert duration_s("X", f"{number}{unit[0]}", 30 * DAY_S) == seconds
    else:
        with pytest.raises(InvalidHeader, match=r"^X: "):
            duration_s("X", f"{number}{unit[0]}", 30 * DAY_S)


@given(st.text(max_size=30))
def test_any_text_is_a_duration_in_range_or_refused(text: str) -> None:
    try:
        assert 1 <= duration_s("X", text, DAY_S) <= DAY_S
    except InvalidHeader as refused:
        assert str(refused).startswith("X: ")


@given(st.text(st.characters(min_codepoint=1, max_codepoint=0xFF), max_size=600))
def test_a_key_is_taken_as_it_is_or_refused(text: str) -> None:
    try:
        assert wishes_of([("idempotency-key", text)], SETTINGS).key == text
    except InvalidHeader:
        too_long = len(text) > SETTINGS.max_key_bytes
        controls = any(ord(c) < 32 or ord(c) == 127 for c in text)
        assert too_long or controls or not text.strip(" \t")


@pytest.mark.parametrize(
    ("tier", "priority"),
    [("priority", "high"), ("flex", "low"), ("auto", "normal"), (None, "normal"), ([], "normal")],
)
def test_a_service_tier_is_a_priority(tier: object, priority: str) -> None:
    assert priority_of_tier(tier) == priority


def test_no_credential_and_nothing_of_the_connection_is_kept_with_a_job() -> None:
    names = ("authorization", "cookie", "proxy-authorization", "api-key", "x-api-key")
    proxies = ("x-auth-request-access-token", "x-auth-token", "x-forwarded-access-token")
    secret = [(name, "s3cret") for name in (*names, *proxies)]
    ours = [("relume-keep", "1h"), ("idempotency-key", "k"), ("prefer", "respond-async")]
    others = [("host", "h"), ("content-length", "3"), ("connection", "close"), ("origin", "o")]
    kept = [("traceparent", "00-1"), ("x-llm-d-slo", "1"), ("accept", "a"), ("accept", "b")]
    prefer = AsyncPreference(None, "if-available")
    assert kept_headers([*secret, *ours, *others, *kept], prefer, 1000) == {
        "traceparent": "00-1",
        "x-llm-d-slo": "1",
        "accept": "a, b",
        "prefer": "if-available",
    }


def test_headers_that_are_too_long_together_are_refused_by_the_longest() -> None:
    headers = [("x-short", "1"), ("x-long", "l" * 100)]
    with pytest.raises(InvalidHeader, match="'x-long'"):
        kept_headers(headers, AsyncPreference(), 100)
