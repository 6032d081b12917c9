"""Validation of Knative Eventing's sources, sinks and channels, Kafka's with them.

Each row: a change to a document that is accepted, the field that is named, the reason; no field
means that it stays accepted. The sources are named in the modules of `relume.cluster.admission`.
"""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.admission import Cluster

from .documents import check, hits, judged, told
from .other_documents import (
    API,
    AWS,
    BINDING,
    CHANNEL,
    CONTAINER,
    EVENTING,
    IN_MEMORY,
    KAFKA,
    KAFKA_CHANNEL,
    KAFKA_SINK,
    PING,
    SINK,
    TIMER,
)

SCOPE = "eventing.knative.dev/scope"
S3 = {"arn": "a", "region": "r"}

ROWS: list[tuple[dict[str, Any], str, object, str | None, str | None]] = [
    (PING, "spec sink", {}, "spec.sink.ref", "missing-field"),
    (PING, "spec sink", {"uri": "/relative"}, "spec.sink.uri", "invalid-value"),
    (PING, "spec sink ref name", None, "spec.sink.ref.name", "missing-field"),
    (PING, "spec schedule", None, None, None),
    (PING, "spec schedule", "@hourly", None, None),
    (PING, "spec schedule", "@every 1m", "spec.schedule", "invalid-value"),
    (PING, "spec schedule", "61 * * * *", "spec.schedule", "invalid-value"),
    (PING, "spec timezone", "Asia/Tokyo", None, None),
    (PING, "spec timezone", "Middle/Earth", "spec.timezone", "invalid-value"),
    (PING, "spec dataBase64", "aGk=", "spec.data", "one-of"),
    (PING, "spec contentType", "application/json", "spec.data", "invalid-value"),
    (PING, "spec contentType", "text/plain", None, None),
    (
        PING,
        "spec ceOverrides extensions",
        {"Bad-Name": "x"},
        "spec.ceOverrides.extensions",
        "invalid-value",
    ),
    (PING, "spec ceOverrides extensions", {"tenant": "x", "Upper1": "y"}, None, None),
    (PING, "spec ceOverrides extensions", {"a": 1}, "spec.ceOverrides.extensions.a", "wrong-type"),
    (PING, "spec interval", "1m", "spec.interval", "unknown-field"),
    (API, "spec mode", "Resource", None, None),
    (API, "spec mode", "Foo", "spec.mode", "invalid-value"),
    (API, "spec resources", [], "spec.resources", "missing-field"),
    (API, "spec resources 0 kind", None, "spec.resources[0].kind", "missing-field"),
    (API, "spec resources 0 apiVersion", "a/b/c", "spec.resources[0].apiVersion", "invalid-value"),
    (API, "spec owner", {"apiVersion": "v1"}, "spec.owner.kind", "missing-field"),
    (API, "spec filters", [{"exact": {"type": "a"}}], "spec.filters", "feature-off"),
    (API, "spec filter", [], "spec.filter", "undecodable-field"),
    (
        CONTAINER,
        "spec template spec containers",
        [],
        "spec.template.spec.containers",
        "missing-field",
    ),
    (
        CONTAINER,
        "spec template spec containers 0 image",
        None,
        "spec.template.spec.containers[0].image",
        "missing-field",
    ),
    (
        CONTAINER,
        "spec template spec containers 0 imagePulPolicy",
        "Always",
        "spec.template.spec.containers[0].imagePulPolicy",
        "undecodable-field",
    ),
    (BINDING, "spec subject", None, "spec.subject.kind", "missing-field"),
    (BINDING, "spec subject name", None, "spec.subject.name", "one-of"),
    (
        BINDING,
        "spec subject selector",
        {"matchLabels": {"a": "b"}},
        "spec.subject.name",
        "one-of",
    ),
    (BINDING, "spec subject namespace", "other", "spec.subject.namespace", "invalid-value"),
    (BINDING, "spec subject namespace", "default", None, None),
    (BINDING, "spec subject name", "A_B", "spec.subject.name", "invalid-value"),
    (TIMER, "spec timer", None, "spec", "one-of"),
    (TIMER, "spec aws", {"s3": S3}, "spec", "one-of"),
    (AWS, "spec aws auth", None, "spec.aws.auth.secret.ref.name", "missing-field"),
    (AWS, "spec aws auth", {"serviceAccountName": "a"}, None, None),
    (AWS, "spec aws sqs region", None, "spec.aws.sqs.region", "missing-field"),
    (AWS, "spec log", {"level": "INFO"}, "spec", "one-of"),
    (AWS, "spec aws sns", S3, "spec", "one-of"),
    (KAFKA, "spec topics", [], "spec.topics", "missing-field"),
    (KAFKA, "spec bootstrapServers", None, "spec.bootstrapServers", "missing-field"),
    (KAFKA, "spec initialOffset", "earliest", None, None),
    (KAFKA, "spec initialOffset", "first", "spec.initialOffset", "invalid-value"),
    (KAFKA, "spec ordering", "unordered", None, None),
    (KAFKA, "spec sink", {"kind": "Broker"}, "spec.sink.ref", "missing-field"),
    (KAFKA, "apiVersion", "sources.knative.dev/v1beta1", None, None),
    (KAFKA, "apiVersion", "sources.knative.dev/v1alpha1", "apiVersion", "no-such-kind"),
    (KAFKA_SINK, "spec topic", "", "spec.topic", "missing-field"),
    (KAFKA_SINK, "spec contentMode", "structured", None, None),
    (KAFKA_SINK, "spec contentMode", "batched", "spec.contentMode", "unsupported-value"),
    (KAFKA_SINK, "spec numPartitions", 0, "spec.numPartitions", "out-of-range"),
    (
        CHANNEL,
        "spec channelTemplate",
        {"kind": "A"},
        "spec.channelTemplate.apiVersion",
        "missing-field",
    ),
    (CHANNEL, "spec subscribers", [{"uid": "a"}], "spec.subscribers", "not-allowed"),
    (CHANNEL, "spec delivery", {"retry": -1}, "spec.delivery.retry", "invalid-value"),
    (
        CHANNEL,
        "spec delivery",
        {"deadLetterSink": {"ref": {**SINK["ref"], "namespace": "other"}}},
        "spec.delivery.deadLetterSink.ref.namespace",
        "invalid-value",
    ),
    (IN_MEMORY, "apiVersion", "messaging.knative.dev/v1beta1", "apiVersion", "no-such-kind"),
    (
        IN_MEMORY,
        f"metadata annotations {SCOPE}",
        "planet",
        f"metadata.annotations[{SCOPE}]",
        "invalid-value",
    ),
    (IN_MEMORY, f"metadata annotations {SCOPE}", "namespace", None, None),
    (IN_MEMORY, "spec subscribers", [{"uid": "a"}], "spec.subscribers[0]", "missing-field"),
    (IN_MEMORY, "spec subscribers", [{"subscriberUri": "http://a/"}], None, None),
    (KAFKA_CHANNEL, "spec numPartitions", -1, "spec.numPartitions", "out-of-range"),
    (KAFKA_CHANNEL, "spec numPartitions", 0, None, None),
    (KAFKA_CHANNEL, "spec retentionDuration", "7d", "spec.retentionDuration", "invalid-value"),
    (KAFKA_CHANNEL, "spec retentionDuration", "PT168H", None, None),
]


@pytest.mark.parametrize("base", EVENTING, ids=lambda base: base["kind"])
def test_what_the_rows_change_is_accepted(tmp_path: Path, base: dict[str, Any]) -> None:
    answer = judged(tmp_path, base)
    assert (answer.verdict, hits(answer)) == ("accepted", set())


@pytest.mark.parametrize(
    ("base", "path", "value", "field", "reason"),
    ROWS,
    ids=[told(base, path, value, reason) for base, path, value, _, reason in ROWS],
)
def test_sources_sinks_and_channels(
    tmp_path: Path,
    base: dict[str, Any],
    path: str,
    value: object,
    field: str | None,
    reason: str | None,
) -> None:
    check(tmp_path, base, path, value, field, reason)


def test_filters_of_an_api_server_source_are_judged_where_the_flag_is_on(tmp_path: Path) -> None:
    on = Cluster({"new-apiserversource-filters": "enabled"})
    document = {**API, "spec": {**API["spec"], "filters": [{"exact": {"type": "a"}}]}}
    assert judged(tmp_path, document, on).verdict == "accepted"
    document["spec"]["filters"] = [{"cesql": "type ="}]
    assert {f.reason for f in judged(tmp_path, document, on).findings} == {"invalid-expression"}


def test_an_integration_source_without_a_sink_is_taken_and_never_works(tmp_path: Path) -> None:
    spec = {name: value for name, value in TIMER["spec"].items() if name != "sink"}
    answer = judged(tmp_path, {**TIMER, "spec": spec})
    assert answer.verdict == "accepted"
    assert [(f.reason, f.field) for f in answer.findings] == [("left-empty", "spec.sink")]


def test_a_kafka_brokers_config_is_a_config_map(tmp_path: Path) -> None:
    broker: dict[str, Any] = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {"name": "b", "annotations": {"eventing.knative.dev/broker.class": "Kafka"}},
        "spec": {
            "config": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "namespace": "n"}
        },
    }
    check(tmp_path, broker, "spec config name", "d", None, None)
    check(tmp_path, broker, "spec config kind", "Secret", "spec.config.kind", "invalid-value")
    own = {"eventing.knative.dev/broker.class": "KafkaNamespaced"}
    field, path = "spec.config.namespace", "metadata annotations"
    check(tmp_path, broker, path, own, field, "invalid-value")


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("* * * * *", False),
        ("0 30 9 * * MON-FRI", False),
        ("0 0 1 jan,jul ?", False),
        ("*/15 0-23/2 1,15 * 0", False),
        ("5/10 * * * *", False),
        ("@midnight", False),
        ("* * * *", True),
        ("* * * * * * *", True),
        ("* 24 * * *", True),
        ("* * 0 * *", True),
        ("* * * 13 *", True),
        ("* * * * 7", True),
        ("* * * * SUNDAY", True),
        ("30-10 * * * *", True),
        ("*/0 * * * *", True),
        ("1-2-3 * * * *", True),
        ("1/2/3 * * * *", True),
        ("-5 * * * *", True),
        ("@noon", True),
        ("@every 5m", True),
    ],
)
def test_a_schedule_is_read_as_robfig_cron_does(tmp_path: Path, schedule: str, wrong: bool) -> None:
    answer = judged(tmp_path, {**PING, "spec": {**PING["spec"], "schedule": schedule}})
    assert hits(answer) == ({("invalid-value", "spec.schedule")} if wrong else set())
