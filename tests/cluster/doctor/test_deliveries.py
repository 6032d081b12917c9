"""What `relume doctor` says of deliveries as the classes of Brokers find them, and of filters."""

from pathlib import Path

import pytest

from relume.cluster.admission import SHIPPED, Cluster
from relume.cluster.doctor.deliveries import RULES
from relume.eventing.delivery.profiles import ALL as PROFILES
from tests.config.manifests import broker, service, together, trigger

from .test_doctor import ASK, ONLY_REQUESTS, SINK, diagnosed, found

CLASS = "eventing.knative.dev/broker.class"


def test_kafka_counts_the_waits_from_one(tmp_path: Path) -> None:
    standard = service(metadata="annotations: {serving.kserve.io/deploymentMode: Standard}")
    asked = trigger(f"{ONLY_REQUESTS}\ndelivery: {{retry: 5, backoffDelay: PT1S, {SINK}}}", ASK)
    reason = ("retries-shorter-than-start", "spec.delivery.retry")
    for name, last in (("MTChannelBasedBroker", 0), ("Kafka", 62), ("RabbitMQBroker", 62)):
        given = broker(metadata=f"annotations: {{{CLASS}: {name}}}")
        text = together(given, standard, asked)  # 2 + 4 + 8 + 16 + 32 = 62 s
        assert reason in found(tmp_path, text, cold_start_s=last + 1), name
        assert reason not in found(tmp_path, text, cold_start_s=last), name


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("MTChannelBasedBroker", {"no-retry"}),
        ("Kafka", set()),
        ("RabbitMQBroker", {"no-dead-letter"}),  # its retries are 5
        ("NatsJetStreamBroker", {"no-dead-letter", "no-retry"}),
    ],
)
def test_a_class_decides_what_a_trigger_takes_from_its_broker(
    tmp_path: Path, name: str, missing: set[str]
) -> None:
    given = broker(f"delivery: {{retry: 6, {SINK}}}", metadata=f"annotations: {{{CLASS}: {name}}}")
    asked = trigger(f"{ONLY_REQUESTS}\ndelivery: {{timeout: PT10M}}", ASK)
    reasons = {reason for reason, _ in found(tmp_path, together(given, service(), asked))}
    assert reasons - {"lease-shorter-than-answer"} == missing


def test_the_rules_of_the_classes_are_those_that_are_played() -> None:
    for name, profile in PROFILES.items():
        rules = RULES[name]
        assert rules.inherits == profile.inherits
        assert rules.retries == profile.default_retry
        assert (rules.delay_s, rules.timeout_s) == (profile.default_delay_s, profile.timeout_s)
        assert rules.first_exponent == profile.first_exponent


@pytest.mark.parametrize(
    ("batch", "timeout", "said"),
    [
        (None, None, "30 s does not cover 10 answers of 300 s"),
        (None, "PT50M", None),
        ("1", None, "30 s does not cover an answer of 300 s"),
        ("1", "PT310S", None),
        ("4", "PT310S", "310 s does not cover 4 answers of 300 s"),
        ("none", "PT310S", "310 s does not cover 10 answers of 300 s"),
    ],
)
def test_a_nats_broker_takes_back_the_events_behind_a_slow_one(
    tmp_path: Path, batch: str | None, timeout: str | None, said: str | None
) -> None:
    notes = f"{CLASS}: NatsJetStreamBroker"
    if batch is not None:
        env = f'{{"filter":{{"env":[{{"name":"CONSUMER_FETCH_BATCH_SIZE","value":"{batch}"}}]}}}}'
        notes += f", natsjetstream.eventing.knative.dev/config: '{env}'"
    delivery = f"retry: 5, {SINK}" + (f", timeout: {timeout}" if timeout else "")
    asked = trigger(f"{ONLY_REQUESTS}\ndelivery: {{{delivery}}}", ASK)
    text = together(broker(metadata=f"annotations: {{{notes}}}"), service(), asked)
    messages = [
        finding.message
        for one in diagnosed(tmp_path, text, SHIPPED, 60)
        for finding in one.findings
        if finding.reason == "lease-shorter-than-answer"
    ]
    assert messages == ([f"the lease of {said}"] if said else [])


@pytest.mark.parametrize(
    ("expression", "meaning"),
    [
        (
            "type = 'a' AND source = 'b' OR source = 'c'",
            "type = 'a' AND (source = 'b' OR source = 'c')",
        ),
        ("type = 'a' AND (source = 'b' OR source = 'c')", None),
        ("(type = 'a' AND source = 'b') OR source = 'c'", None),
        ("type = 'a' OR source = 'b' AND source = 'c'", None),  # what everybody expects
        ("type = 'a' AND source = 'b' AND id = 'c'", None),
        ("NOT (EXISTS a AND (EXISTS b) OR EXISTS c)", "EXISTS a AND ((EXISTS b) OR EXISTS c)"),
    ],
)
def test_an_expression_whose_brackets_matter_is_said(
    tmp_path: Path, expression: str, meaning: str | None
) -> None:
    nested = f'filters: [{{all: [{{not: {{cesql: "{expression}"}}}}]}}]'
    text = together(broker(), trigger(f"{nested}\ndelivery: {{{SINK}}}", ASK))
    messages = [
        (finding.field, finding.message)
        for one in diagnosed(tmp_path, text, SHIPPED, 60)
        for finding in one.findings
        if finding.reason == "groups-from-right"
    ]
    field = "spec.filters[0].all[0].not.cesql"
    assert messages == ([(field, f"it means {meaning}")] if meaning else [])


def test_a_rollout_that_begins_at_zero_needs_no_second_device(tmp_path: Path) -> None:
    zero = "annotations: {autoscaling.knative.dev/initial-scale: '0'}"
    text = service("maxReplicas: 1", "resources: {limits: {nvidia.com/gpu: 1}}", metadata=zero)
    reasons = {reason for reason, _ in found(tmp_path, text)}
    assert reasons == {"second-device", "annotation-ignored"}
    assert found(tmp_path, text, Cluster({"allow-zero-initial-scale": "true"})) == set()
