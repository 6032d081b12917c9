"""The decisions of `strict` delivery (B4 to B7), as tables."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.cloudevents.event import CloudEvent
from relume.eventing.delivery.decision import DeadLetter, Done, Reply, Retry, decide
from relume.eventing.delivery.outcome import Answered, Unanswered, pause_s, retry_after_s
from relume.eventing.delivery.route import DeliveryPolicy, backoff_s

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = DeliveryPolicy()
EVENT = CloudEvent.create({"id": "1", "source": "/s", "type": "t"})


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 502, 503, 504, 599])
def test_these_statuses_are_tried_again(status: int) -> None:
    assert isinstance(decide(Answered(status), 0, POLICY, NOW), Retry)


@pytest.mark.parametrize(
    "status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 405, 410, 413, 499]
)
def test_these_statuses_are_final(status: int) -> None:
    assert decide(Answered(status, body=b"why"), 0, POLICY, NOW) == DeadLetter(
        "rejected", status, b"why"
    )


def test_no_answer_is_tried_again() -> None:
    assert decide(Unanswered("refused"), 0, POLICY, NOW) == Retry(0.2, "refused")


@pytest.mark.parametrize(
    ("outcome", "action"),
    [
        (Answered(200), Done()),
        (Answered(204), Done()),
        (Answered(200, reply=EVENT), Reply(EVENT)),
        (Answered(201, reply=EVENT), Reply(EVENT)),
        (Answered(202, reply=EVENT), Done()),
        (Answered(202, malformed="text"), Done()),
        (Answered(200, malformed="text"), DeadLetter("not-an-event", 200, b"text")),
    ],
)
def test_what_a_success_means(outcome: Answered, action: object) -> None:
    assert decide(outcome, 0, POLICY, NOW) == action


def test_attempts_are_one_more_than_retries() -> None:
    policy = DeliveryPolicy(retry=2)
    actions = [decide(Answered(503, body=b"x"), n, policy, NOW) for n in range(3)]
    assert [type(action) for action in actions] == [Retry, Retry, DeadLetter]
    assert actions[2] == DeadLetter("retries-exhausted", 503, b"x")
    assert decide(Unanswered("reset"), 2, policy, NOW) == DeadLetter(
        "retries-exhausted", -1, b"reset"
    )


def test_the_default_waits_of_a_broker_add_up_to_204_6_seconds() -> None:
    assert sum(backoff_s(POLICY, n) for n in range(POLICY.retry)) == pytest.approx(204.6)


@given(st.integers(0, 10_000), st.floats(0, 1e6), st.sampled_from(["linear", "exponential"]))
def test_a_backoff_is_always_something_a_timer_can_hold(
    attempt: int, delay: float, policy: str
) -> None:
    wait = backoff_s(DeliveryPolicy(backoff=policy, backoff_delay_s=delay), attempt)  # type: ignore[arg-type]
    assert 0 <= wait <= 86_400


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        ("1.5", None),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("9" * 400, 86_400.0),
        ("Thu, 99 Jan 99999999999 00:00:00 GMT", None),
        ("Thu, 01 Jan 2026 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "retry_after", "maximum", "wait"),
    [
        (429, "30", None, 0.2),
        (429, "30", 0.0, 0.2),
        (429, "30", 60.0, 30.0),
        (503, "90", 60.0, 60.0),
        (503, "0", 60.0, 0.2),
        (503, "nonsense", 60.0, 0.2),
        (500, "30", 60.0, 0.2),
    ],
)
def test_retry_after_counts_only_when_the_delivery_allows_it(
    status: int, retry_after: str, maximum: float | None, wait: float
) -> None:
    policy = DeliveryPolicy(retry_after_max_s=maximum)
    action = decide(Answered(status, retry_after=retry_after), 0, policy, NOW)
    assert action == Retry(wait, f"status {status}")


@pytest.mark.parametrize(
    ("outcome", "maximum", "pause"),
    [
        (Answered(429, retry_after="30"), 60.0, 30.0),
        (Answered(503, retry_after="Thu, 01 Jan 2026 00:00:30 GMT"), 60.0, 30.0),
        (Answered(503, retry_after="9" * 400), 60.0, 60.0),
        (Answered(503, retry_after="20"), None, 20.0),
        (Answered(503, retry_after="9" * 400), None, 30.0),
        (Answered(503, retry_after="30"), 0.0, 0.0),
        (Answered(500, retry_after="30"), 60.0, 0.0),
        (Answered(200, retry_after="30"), 60.0, 0.0),
        (Answered(429), 60.0, 0.0),
        (Unanswered("reset"), 60.0, 0.0),
    ],
)
def test_a_subscriber_is_left_in_peace_for_as_long_as_the_delivery_allows(
    outcome: Answered | Unanswered, maximum: float | None, pause: float
) -> None:
    assert pause_s(outcome, DeliveryPolicy(retry_after_max_s=maximum), NOW) == pause


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Foo", ""]),
    st.integers(-1, 40),
    st.sampled_from(["Jan", "Dec", "Bar"]),
    st.integers(-1, 100_000),
    *[st.integers(-1, 99)] * 3,
    st.sampled_from(["GMT", "-0000", "+2359", "-9999", "+999999", "EST", ""]),
)


@given(st.text() | DATES | st.integers().map(str) | st.floats().map(str))
def test_b4_no_retry_after_is_an_error(value: str) -> None:

    seconds = retry_after_s(value, NOW)
    assert seconds is None or seconds >= 0
