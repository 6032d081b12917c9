"""Which delivery counts, and what a profile makes of what it leaves out (B4, B6, B7)."""

import pytest

from relume.config import Broker, Delivery, Destination, Trigger
from relume.eventing.delivery.profiles import ALL
from relume.eventing.delivery.route import DeliveryPolicy, policy_for

SINK = Destination(uri="http://sink")
OTHER_SINK = Destination(uri="http://other")


def policy(
    trigger: Delivery | None, broker: Delivery | None, profile: str = "strict"
) -> DeliveryPolicy:
    return policy_for(
        Trigger("ns", "t", "b", Destination(uri="http://x"), delivery=trigger),
        Broker("ns", "b", delivery=broker),
        ALL[profile],
    )


def test_without_any_delivery_the_brokers_defaults_apply() -> None:
    assert policy(None, None) == DeliveryPolicy(
        retry=10, backoff="exponential", backoff_delay_s=0.2, timeout_s=None
    )


def test_the_triggers_delivery_replaces_the_brokers_as_a_whole() -> None:
    broker = Delivery(retry=7, timeout_s=9.0)
    assert policy(None, broker).retry == 7
    chosen = policy(Delivery(backoff_delay_s=1.0), broker)
    assert (chosen.retry, chosen.backoff_delay_s, chosen.timeout_s) == (0, 1.0, None)


def test_the_dead_letter_sink_alone_falls_back_to_the_brokers() -> None:
    broker = Delivery(dead_letter_sink=SINK)
    assert policy(Delivery(retry=1), broker).dead_letter_sink == SINK
    assert policy(Delivery(dead_letter_sink=OTHER_SINK), broker).dead_letter_sink == OTHER_SINK
    assert policy(None, broker).dead_letter_sink == SINK
    assert policy(None, None).dead_letter_sink is None


@pytest.mark.parametrize(
    ("profile", "retry", "delay"),
    [("strict", 10, 0.2), ("mt", 10, 0.2), ("kafka", 10, 0.2), ("rabbitmq", 10, 0.2)],
)
def test_a_broker_without_a_delivery_has_the_clusters_default(
    profile: str, retry: int, delay: float
) -> None:
    found = policy(None, None, profile)
    assert (found.retry, found.backoff, found.backoff_delay_s) == (retry, "exponential", delay)


def test_nats_knows_only_the_triggers_own_delivery() -> None:
    brokers = Delivery(retry=7, dead_letter_sink=SINK)
    for trigger, retry in ((None, 0), (Delivery(), 0), (Delivery(retry=2), 2)):
        found = policy(trigger, brokers, "nats")
        assert (found.retry, found.dead_letter_sink) == (retry, None)


def test_kafka_fills_in_what_the_trigger_leaves_out_from_the_broker() -> None:
    brokers = Delivery(
        retry=7,
        backoff_policy="linear",
        backoff_delay_s=3.0,
        timeout_s=9.0,
        dead_letter_sink=SINK,
    )
    found = policy(Delivery(timeout_s=60.0), brokers, "kafka")
    assert (found.retry, found.backoff_delay_s, found.timeout_s) == (7, 3.0, 60.0)
    assert (found.backoff, found.dead_letter_sink) == ("exponential", SINK)
    assert policy(Delivery(retry=0), brokers, "kafka").retry == 7
    assert policy(Delivery(retry=2), brokers, "kafka").backoff_delay_s == 1.0
    assert policy(Delivery(backoff_delay_s=5.0), brokers, "kafka").backoff == "linear"


@pytest.mark.parametrize(
    ("profile", "delay"), [("strict", 0.2), ("mt", 0.0), ("kafka", 1.0), ("rabbitmq", 0.05)]
)
def test_how_long_a_delivery_waits_that_does_not_say_it(profile: str, delay: float) -> None:
    assert policy(Delivery(retry=3), None, profile).backoff_delay_s == delay


@pytest.mark.parametrize("profile", ["mt", "nats"])
def test_a_delay_without_a_policy_is_no_wait_for_some(profile: str) -> None:
    alone = Delivery(retry=3, backoff_delay_s=5.0)
    both = Delivery(retry=3, backoff_policy="linear", backoff_delay_s=5.0)
    assert policy(alone, None, profile).backoff_delay_s == 0.0
    assert policy(both, None, profile).backoff_delay_s == 5.0


def test_rabbitmq_does_not_take_the_sink_of_the_broker_beside_a_delivery_of_the_trigger() -> None:
    brokers = Delivery(dead_letter_sink=SINK)
    assert policy(Delivery(retry=1), brokers, "rabbitmq").dead_letter_sink is None
    assert policy(None, brokers, "rabbitmq").dead_letter_sink == SINK


def test_rabbitmq_retries_five_times_when_a_delivery_does_not_say() -> None:
    assert policy(Delivery(timeout_s=1.0), None, "rabbitmq").retry == 5


@pytest.mark.parametrize(
    ("profile", "timeout"),
    [("strict", None), ("mt", None), ("kafka", 600.0), ("rabbitmq", None), ("nats", None)],
)
def test_b7_how_long_an_attempt_may_take_by_default(profile: str, timeout: float | None) -> None:
    assert policy(None, None, profile).timeout_s == timeout
    assert policy(Delivery(timeout_s=5.0), None, profile).timeout_s == 5.0


@pytest.mark.parametrize(
    ("profile", "heeded"),
    [("strict", 60.0), ("mt", 60.0), ("kafka", None), ("rabbitmq", None), ("nats", None)],
)
def test_b4_who_reads_retry_after(profile: str, heeded: float | None) -> None:
    found = policy(Delivery(retry_after_max_s=60.0), None, profile)
    assert found.retry_after_max_s == heeded
