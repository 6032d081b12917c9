"""Brokers and Triggers are read as Knative Eventing would, or refused by the field's name."""

from pathlib import Path

import pytest

from relume.config import (
    All,
    Any_,
    Cesql,
    Delivery,
    Destination,
    Exact,
    Negation,
    Prefix,
    Ref,
    Suffix,
    Trigger,
)

from .manifests import HERE, broker, load_text, refused, service, together, trigger


def read_trigger(tmp_path: Path, spec: str = "", subscriber: str | None = None) -> Trigger:
    text = trigger(spec) if subscriber is None else trigger(spec, subscriber)
    return load_text(tmp_path, together(broker(), service(), text)).triggers[0]


def refused_trigger(tmp_path: Path, field: str, message: str, **parts: str) -> None:
    text = together(broker(), service(), trigger(**parts))
    refused(tmp_path, text, field, message)


def test_a_broker_needs_no_spec(tmp_path: Path) -> None:
    (found,) = load_text(tmp_path, broker()).brokers
    assert (found.namespace, found.name, found.broker_class, found.delivery) == (
        "default",
        "b",
        None,
        None,
    )


def test_a_brokers_delivery_class_and_config_are_read_or_listed(tmp_path: Path) -> None:
    metadata = "annotations:\n  eventing.knative.dev/broker.class: Kafka\n  mine: x"
    spec = "config: {kind: ConfigMap, name: c}\ndelivery: {retry: 3, backoffDelay: PT0.5S}"
    plan = load_text(tmp_path, broker(spec, metadata=metadata))
    assert plan.brokers[0].broker_class == "Kafka"
    assert plan.brokers[0].delivery == Delivery(retry=3, backoff_delay_s=0.5)
    assert [(n.field, n.kind, n.name) for n in plan.not_honoured] == [
        ("metadata.annotations.eventing.knative.dev/broker.class", "Broker", "b"),
        ("spec.config", "Broker", "b"),
    ]


def test_a_trigger_without_a_filter_takes_every_event(tmp_path: Path) -> None:
    found = read_trigger(tmp_path)
    assert (found.broker, found.filters, found.legacy_attributes) == ("b", None, None)
    assert found.subscriber == Destination(uri="http://127.0.0.1:9/")
    assert found.delivery is None


@pytest.mark.parametrize("nothing", ["filters: []", "filter: {}", "filter: {attributes: {}}"])
def test_an_empty_filter_counts_as_none(tmp_path: Path, nothing: str) -> None:
    found = read_trigger(tmp_path, nothing)
    assert (found.filters, found.legacy_attributes) == (None, None)


def test_every_dialect_is_read_and_nests(tmp_path: Path) -> None:
    spec = """\
filters:
  - exact: {type: a, source: b}
  - prefix: {type: com.}
  - suffix: {subject: .png}
  - all:
      - any: [{exact: {x: '1'}}, {exact: {x: '2'}}]
      - not: {not: {prefix: {type: z}}}
      - cesql: type LIKE 'com.%' AND NOT EXISTS urgent
filter: {attributes: {type: old, subject: ''}}
"""
    found = read_trigger(tmp_path, spec)
    assert found.filters == (
        Exact({"type": "a", "source": "b"}),
        Prefix({"type": "com."}),
        Suffix({"subject": ".png"}),
        All(
            (
                Any_((Exact({"x": "1"}), Exact({"x": "2"}))),
                Negation(Negation(Prefix({"type": "z"}))),
                Cesql("type LIKE 'com.%' AND NOT EXISTS urgent"),
            )
        ),
    )
    assert found.legacy_attributes == {"type": "old", "subject": ""}


@pytest.mark.parametrize(
    ("one", "field", "message"),
    [
        ("{regex: {type: a}}", "[0].regex", "unknown field"),
        ("{exakt: {type: a}}", "[0].exakt", "did you mean exact?"),
        ("{exact: {type: a}, prefix: {type: a}}", "[0]", "multiple dialects found"),
        ("{exact: {type: a}, not: {exact: {type: b}}}", "[0]", "multiple dialects found"),
        ("{}", "[0]", "write one of all, any, cesql"),
        ("{cesql: type == 'a'}", "[0].cesql", "character 6: unexpected ==: write ="),
        ("{cesql: ''}", "[0].cesql", "must not be empty"),
        ("{cesql: 5}", "[0].cesql", 'not the integer 5: write "5"'),
        ("{cesql: {type: a}}", "[0].cesql", "must be a string, not a table of fields"),
        ("{not: {cesql: ABC(}}", "[0].not.cesql", "no CESQL expression: character 5"),
        ("{exact: {}}", "[0].exact", "at least one attribute"),
        ("{exact: {type: ''}}", "[0].exact.type", "must not be empty"),
        ("{exact: {type: 5}}", "[0].exact.type", 'not the integer 5: write "5"'),
        ("{exact: {my-ext: a}}", "[0].exact.my-ext", 'invalid key name "my-ext"'),
        ("{prefix: {Type: a}}", "[0].prefix.Type", 'invalid key name "Type"'),
        ("{suffix: {1a: a}}", "[0].suffix.1a", 'invalid key name "1a"'),
        ("{exact: a}", "[0].exact", "must be a table of fields, not the string a"),
        ("{all: []}", "[0].all", "at least one filter"),
        ("{any: {exact: {type: a}}}", "[0].any", "must be a list"),
        ("{any: [{exact: {type: a}}, {nor: 1}]}", "[0].any[1].nor", "unknown field"),
        ("{not: [{exact: {type: a}}]}", "[0].not", "must be a table of fields, not a list"),
        ("exact", "[0]", "must be a table of fields, not the string exact"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_path(
    tmp_path: Path, one: str, field: str, message: str
) -> None:
    spec = f"filters:\n  - {one}  {HERE}"
    refused_trigger(tmp_path, f"spec.filters{field}", message, spec=spec)


def test_a_wrong_legacy_filter_is_refused(tmp_path: Path) -> None:
    spec = f"filter: {{attributes: {{my-ext: a}}}}  {HERE}"
    refused_trigger(tmp_path, "spec.filter.attributes.my-ext", "invalid key name", spec=spec)
    spec = f"filter: {{type: a}}  {HERE}"
    refused_trigger(tmp_path, "spec.filter.type", "unknown field", spec=spec)


def test_filters_nested_beyond_all_reason_are_refused(tmp_path: Path) -> None:
    spec = "filters: [" + "{not: " * 500 + "{exact: {type: a}}" + "}" * 500 + "]"
    refused_trigger(tmp_path, "YAML", "nested too deep", spec=spec)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("uri: https://host:8443/a?b=c", Destination(uri="https://host:8443/a?b=c")),
        (
            "ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}",
            Destination(Ref("Broker", "default", "b", "eventing.knative.dev/v1")),
        ),
        (
            "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}\n"
            "uri: /v1/chat/completions",
            Destination(
                Ref("InferenceService", "default", "m", "serving.kserve.io/v1beta1"),
                "/v1/chat/completions",
            ),
        ),
        (
            "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m, "
            "namespace: default}\nuri: v1/embeddings",
            Destination(
                Ref("InferenceService", "default", "m", "serving.kserve.io/v1beta1"),
                "/v1/embeddings",
            ),
        ),
    ],
)
def test_subscribers_are_read(tmp_path: Path, written: str, read: Destination) -> None:
    assert read_trigger(tmp_path, subscriber=written).subscriber == read


INFERENCE = "apiVersion: serving.kserve.io/v1beta1, kind: InferenceService"


@pytest.mark.parametrize(
    ("written", "field", "message"),
    [
        ("{}", "", "expected at least one, got none: write ref or uri"),
        ("{uri: /v1}", ".uri", "a relative URI is not allowed without a ref"),
        ("{uri: host/path}", ".uri", "a relative URI is not allowed without a ref"),
        ("{uri: 'http://'}", ".uri", "a relative URI is not allowed without a ref"),
        ("{uri: 'ftp://host/'}", ".uri", "events are sent over http or https"),
        ("{uri: 'http://host:99999/'}", ".uri", "invalid value: http://host:99999/: Port out"),
        ("{uri: 'http://ho st/'}", ".uri", "no URI has such a character"),
        ("{uri: ''}", ".uri", "must not be empty"),
        ("{uri: 5}", ".uri", "must be a string"),
        (f"{{ref: {{{INFERENCE}, name: m}}, uri: 'http://h/'}}", ".uri", "beside a ref"),
        (f"{{ref: {{{INFERENCE}, name: m}}, uri: '//h/x'}}", ".uri", "beside a ref"),
        (f"{{ref: {{{INFERENCE}}}}}", ".ref.name", "is missing"),
        (f"{{ref: {{{INFERENCE}, name: ''}}}}", ".ref.name", "must not be empty"),
        (f"{{ref: {{{INFERENCE}, name: m, namespace: A}}}}", ".ref.namespace", "invalid value: A"),
        ("{ref: {kind: Job, apiVersion: batch/v1, name: s}}", ".ref.kind", "Job is not on this"),
        (
            "{ref: {kind: Service, apiVersion: v1, name: s}}",
            ".ref.apiVersion",
            "v1 is not known for Service: write serving.knative.dev/v1",
        ),
        ("{ref: {kind: InferenceService, name: m}}", ".ref.apiVersion", "is missing"),
        (
            "{ref: {kind: Broker, apiVersion: eventing.knative.dev/v1beta1, name: b}}",
            ".ref.apiVersion",
            "write eventing.knative.dev/v1",
        ),
        ("{ref: {name: m}}", ".ref.kind", "is missing: known are InferenceService, Service, Bro"),
        ("{url: 'http://h/'}", ".url", "did you mean uri?"),
        ("{uri: 'https://h/', CACerts: x}", ".CACerts", "not honoured on this machine"),
        ("{uri: 'https://h/', audience: x}", ".audience", "no identity tokens"),
        ("http://h/", "", "must be a table of fields, not the string http://h/"),
    ],
)
def test_a_wrong_subscriber_is_refused_by_its_path(
    tmp_path: Path, written: str, field: str, message: str
) -> None:
    text = together(
        broker(),
        service(),
        trigger().replace(
            "  subscriber:\n    uri: http://127.0.0.1:9/", f"  subscriber: {written}"
        ),
    )
    refused(tmp_path, text, f"spec.subscriber{field}", message)


def test_a_pool_of_llm_d_is_the_service_of_its_name(tmp_path: Path) -> None:
    ref = "ref: {apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, name: m}"
    found = read_trigger(tmp_path, subscriber=ref).subscriber.ref
    assert found == Ref("InferenceService", "default", "m", "serving.kserve.io/v1beta1")
    older = ref.replace("k8s.io/v1", "k8s.io/v1alpha2")
    refused_trigger(
        tmp_path,
        "spec.subscriber.ref.apiVersion",
        "is not known for InferencePool: write inference.networking.k8s.io/v1",
        subscriber=older + f"  {HERE}",
    )


def test_deliveries_are_read(tmp_path: Path) -> None:
    spec = """\
delivery:
  retry: 0
  backoffPolicy: linear
  backoffDelay: PT0S
  timeout: PT10M
  retryAfterMax: PT1M
  format: json
  deadLetterSink: {uri: 'http://dead.example/'}
"""
    found = read_trigger(tmp_path, spec)
    assert found.delivery == Delivery(
        retry=0,
        backoff_policy="linear",
        backoff_delay_s=0.0,
        timeout_s=600.0,
        retry_after_max_s=60.0,
        dead_letter_sink=Destination(uri="http://dead.example/"),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("retry: -1", "expected 0 <= -1"),
        ("retry: '3'", "must be a whole number"),
        ("backoffPolicy: quadratic", "invalid value: quadratic: must be linear or exponential"),
        ("backoffDelay: '10'", "invalid value: 10"),
        ("backoffDelay: 10", 'not the integer 10: write "10"'),
        ("backoffDelay: -PT1S", "invalid value: -PT1S"),
        ("timeout: PT0S", "invalid value: PT0S"),
        ("timeout: 30s", "invalid value: 30s"),
        ("timeout: P1M", "no fixed length"),
        ("retries: 3", "unknown field; did you mean retry?"),
        ("deadLetterSink: {}", "expected at least one, got none"),
    ],
)
def test_a_wrong_delivery_is_refused_on_a_trigger_and_on_a_broker(
    tmp_path: Path, line: str, message: str
) -> None:
    field = f"spec.delivery.{line.split(':')[0]}"
    spec = f"delivery:\n  {line}  {HERE}"
    refused(tmp_path, broker(spec), field, message)
    refused_trigger(tmp_path, field, message, spec=spec)


@pytest.mark.parametrize(
    ("lines", "field"), [("  broker: b\n", "spec.broker"), ("  subscriber:\n", "spec.subscriber")]
)
def test_a_trigger_needs_a_broker_and_a_subscriber(tmp_path: Path, lines: str, field: str) -> None:
    text = trigger().replace("    uri: http://127.0.0.1:9/\n", "").replace(lines, "")
    refused(tmp_path, text, field, "is missing")


def test_a_broker_ref_in_another_namespace_is_refused(tmp_path: Path) -> None:
    refused_trigger(tmp_path, "spec.brokerRef", "write broker", spec=f"brokerRef: {{}}  {HERE}")
