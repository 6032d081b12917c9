"""What each kind of Broker does with an outcome, as one table: profile × outcome → action.

Each row names its clause of the delivery checklist (B4 to B8).
"""

from datetime import UTC, datetime

import pytest

from relume.cloudevents.event import CloudEvent
from relume.config import Broker
from relume.config.broker_classes import PROFILES, left_out
from relume.eventing.delivery.burial import dead_letter_event
from relume.eventing.delivery.decision import (
    NO_RESPONSE,
    DeadLetter,
    Done,
    Drop,
    Reply,
    Retry,
    decide,
)
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered
from relume.eventing.delivery.profiles import ALL, profile_for
from relume.eventing.delivery.route import DeliveryPolicy, sink_policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = CloudEvent.create({"id": "1", "source": "/s", "type": "t"})
NAMES = ("strict", "mt", "kafka", "rabbitmq", "nats")
TEXT = Answered(200, malformed="text")
AGAIN, GONE, DEAD, DONE, REPLY = Retry, Drop, DeadLetter, Done, Reply


def policy(name: str, **fields: object) -> DeliveryPolicy:
    return DeliveryPolicy(
        profile=ALL[name],
        first_exponent=ALL[name].first_exponent,
        **fields,  # type: ignore[arg-type]
    )


# clause, outcome of the first of eleven attempts, and what strict, mt, kafka, rabbitmq, nats do.
ROWS: list[tuple[str, Outcome, tuple[type, ...]]] = [
    ("B4", Unanswered("refused"), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Unanswered("late", timed_out=True), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(404), (AGAIN, AGAIN, AGAIN, AGAIN, GONE)),
    ("B4", Answered(408), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(409), (AGAIN, AGAIN, AGAIN, AGAIN, GONE)),
    ("B4", Answered(429), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(500), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(504), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(599), (AGAIN, AGAIN, AGAIN, AGAIN, AGAIN)),
    ("B4", Answered(302), (DEAD, DEAD, DEAD, GONE, GONE)),
    ("B4", Answered(400), (DEAD, DEAD, DEAD, GONE, GONE)),
    ("B4", Answered(401), (DEAD, DEAD, DEAD, GONE, GONE)),
    ("B4", Answered(403), (DEAD, DEAD, DEAD, GONE, GONE)),
    ("B4", Answered(413), (DEAD, DEAD, DEAD, GONE, GONE)),
    ("B5", Answered(200), (DONE, DONE, DONE, DONE, DONE)),
    ("B5", Answered(204), (DONE, DONE, DONE, DONE, DONE)),
    ("B5", Answered(200, reply=EVENT), (REPLY, REPLY, REPLY, REPLY, REPLY)),
    ("B5", Answered(201, reply=EVENT), (REPLY, REPLY, REPLY, REPLY, REPLY)),
    ("B5", Answered(202, reply=EVENT), (DONE, REPLY, REPLY, REPLY, REPLY)),
    ("B5", Answered(202, malformed="text"), (DONE, AGAIN, DEAD, DONE, DONE)),
    ("B5", TEXT, (DEAD, AGAIN, DEAD, DONE, DONE)),
]


@pytest.mark.parametrize(
    ("clause", "outcome", "name", "expected"),
    [
        pytest.param(clause, outcome, name, action, id=f"{clause}-{name}-{outcome}"[:60])
        for clause, outcome, actions in ROWS
        for name, action in zip(NAMES, actions, strict=True)
    ],
)
def test_what_becomes_of_a_first_attempt(
    clause: str, outcome: Outcome, name: str, expected: type
) -> None:
    assert type(decide(outcome, 0, policy(name), NOW)) is expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outcome", [Answered(503), Unanswered("refused")])
def test_b4_the_last_of_retry_plus_one_attempts_is_a_dead_letter(
    name: str, outcome: Outcome
) -> None:
    rules = policy(name, retry=2)
    actions = [type(decide(outcome, n, rules, NOW)) for n in range(3)]
    assert actions == [Retry, Retry, DeadLetter]


@pytest.mark.parametrize(
    ("name", "linear", "exponential"),
    [
        ("strict", [0, 1, 2], [1, 2, 4]),
        ("mt", [0, 1, 2], [1, 2, 4]),
        ("kafka", [1, 2, 3], [2, 4, 8]),
        ("rabbitmq", [1, 2, 3], [2, 4, 8]),
        ("nats", [1, 2, 3], [2, 4, 8]),
    ],
)
def test_b4_where_the_waits_begin(name: str, linear: list[int], exponential: list[int]) -> None:
    for backoff, expected in (("linear", linear), ("exponential", exponential)):
        rules = policy(name, backoff=backoff, backoff_delay_s=1.0)
        actions = [decide(Answered(503), n, rules, NOW) for n in range(3)]
        assert [a.after_s for a in actions if isinstance(a, Retry)] == expected


def test_b4_the_default_waits_of_kafka_add_up_to_409_2_seconds() -> None:
    rules = policy("kafka")
    actions = [decide(Answered(503), n, rules, NOW) for n in range(10)]
    assert sum(a.after_s for a in actions if isinstance(a, Retry)) == pytest.approx(409.2)


def test_b4_nats_gives_a_refused_event_to_the_sink_on_the_last_attempt_only() -> None:
    rules = policy("nats", retry=1)
    assert isinstance(decide(Answered(400), 0, rules, NOW), Drop)
    assert decide(Answered(400), 1, rules, NOW) == DeadLetter("rejected", 400, b"")


def test_b5_mt_tries_an_answer_that_is_no_event_to_the_end() -> None:
    rules = policy("mt", retry=1)
    assert decide(TEXT, 0, rules, NOW) == Retry(0.2, "text")
    assert decide(TEXT, 1, rules, NOW) == DeadLetter("not-an-event", 502, b"text")


def dead(name: str, letter: DeadLetter) -> dict[str, object]:
    event = dead_letter_event(EVENT, letter, "http://s", ALL[name])
    return {
        key.removeprefix("knativeerror"): value
        for key, value in event.attributes.items()
        if key.startswith("knativeerror")
    }


@pytest.mark.parametrize(
    ("name", "answered", "unanswered", "garbage"),
    [
        ("strict", {"dest", "code", "data"}, {"dest", "code", "data"}, {"dest", "code", "data"}),
        ("mt", {"dest", "code", "data"}, {"dest", "code", "data"}, set()),
        ("kafka", {"dest", "code", "data"}, {"dest"}, {"dest"}),
        ("rabbitmq", {"dest", "code"}, {"dest", "code"}, None),
        ("nats", set(), set(), None),
    ],
)
def test_b6_which_error_extensions_a_dead_letter_gets(
    name: str, answered: set[str], unanswered: set[str], garbage: set[str] | None
) -> None:
    assert dead(name, DeadLetter("rejected", 400, b"why")).keys() == answered
    assert dead(name, DeadLetter("retries-exhausted", NO_RESPONSE, b"?")).keys() == unanswered
    if garbage is not None:
        assert dead(name, DeadLetter("not-an-event", 200, b"text")).keys() == garbage


@pytest.mark.parametrize(("name", "length"), [("strict", 1024), ("mt", 1024), ("kafka", 1368)])
def test_b6_how_much_of_the_answer_a_dead_letter_holds(name: str, length: int) -> None:
    data = dead(name, DeadLetter("rejected", 400, b"x" * 5000))["data"]
    assert len(str(data)) == length


@pytest.mark.parametrize(("name", "code"), [("strict", -1), ("mt", 500), ("rabbitmq", -1)])
def test_b6_the_code_of_an_event_that_nobody_answered(name: str, code: int) -> None:
    assert dead(name, DeadLetter("retries-exhausted", NO_RESPONSE, b"?"))["code"] == code


@pytest.mark.parametrize("name", NAMES)
def test_b6_only_the_strict_broker_keeps_what_no_sink_took_and_says_why(name: str) -> None:
    event = dead_letter_event(EVENT, DeadLetter("rejected", 400, b""), "http://s", ALL[name])
    assert ALL[name].keeps_undeliverable == (name == "strict")
    assert ("deadletterreason" in event.attributes) == (name == "strict")


def test_b6_nats_brings_a_dead_letter_to_its_sink_by_rules_of_its_own() -> None:
    fixed = sink_policy(policy("nats", retry=9, timeout_s=60.0))
    assert (fixed.retry, fixed.backoff, fixed.timeout_s) == (3, "linear", 1.0)
    waits = [decide(Answered(503), n, fixed, NOW) for n in range(3)]
    assert [w.after_s for w in waits if isinstance(w, Retry)] == [0.0, 0.5, 1.0]
    assert sink_policy(policy("kafka", retry=9)).retry == 9


@pytest.mark.parametrize(
    ("name", "at_once", "waits_in_place", "partitions"),
    [
        ("strict", None, False, None),
        ("mt", None, False, None),
        ("kafka", 50, True, 10),
        ("rabbitmq", 1, True, None),
        ("nats", 1, False, None),
    ],
)
def test_b8_how_many_deliveries_run_at_once(
    name: str, at_once: int | None, waits_in_place: bool, partitions: int | None
) -> None:
    rules = ALL[name]
    assert (rules.at_once, rules.waits_in_place, rules.partitions) == (
        at_once,
        waits_in_place,
        partitions,
    )


@pytest.mark.parametrize(
    ("broker_class", "name"),
    [
        (None, "strict"),
        ("Mine", "strict"),
        ("MTChannelBasedBroker", "mt"),
        ("Kafka", "kafka"),
        ("KafkaNamespaced", "kafka"),
        ("RabbitMQBroker", "rabbitmq"),
        ("NatsJetStreamBroker", "nats"),
    ],
)
def test_the_class_annotation_chooses_the_profile(broker_class: str | None, name: str) -> None:
    assert profile_for(Broker("ns", "b", broker_class=broker_class)).name == name


def test_every_class_that_is_played_has_a_profile_and_a_note() -> None:
    assert set(PROFILES.values()) == ALL.keys() - {"strict"}
    assert all("are played" in left_out(each) for each in PROFILES)
    assert "as the specification says" in left_out("Mine")
