"""Channels, and the Kafka kinds of Knative Eventing, as their webhooks judge them.

Source: knative/eventing pkg/apis/messaging/v1/*_validation.go; eventing-kafka-broker
control-plane/pkg/apis/{eventing,messaging,sources}/*/*_validation.go and *_defaults.go.
"""

from relume.cluster.admission.delivery import judge_delivery, judge_lasting
from relume.cluster.admission.judge import INT32, Judge, child, content, entries
from relume.cluster.admission.sources import judge_source, spec_of
from relume.config.nodes import Node, Table

_SCOPE = "eventing.knative.dev/scope"
_SCOPES = ("cluster", "namespace")
_OFFSETS = ("earliest", "latest")
_ORDERINGS = ("unordered", "ordered")
_MODES = ("binary", "structured")


def judge_channel(document: Table, judge: Judge) -> None:
    """messaging.knative.dev/v1 Channel; without a template it gets the namespace's default."""
    spec = spec_of(document)
    if (template := child(spec, "channelTemplate")) is not None:
        judge.check_filled(template, "kind", "apiVersion")
    subscribers = child(spec, "subscribers")
    if subscribers is not None and entries(subscribers):
        judge.not_allowed(subscribers, fix="Write a Subscription for each subscriber.")
    judge_delivery(child(spec, "delivery"), judge)
    namespace = child(spec, "delivery", "deadLetterSink", "ref", "namespace")
    own = content(document, "metadata", "namespace") or "default"
    if namespace is not None and content(namespace) not in ("", own):
        judge.invalid(namespace, f'mismatched namespaces: the Channel is in "{own}"')


def judge_in_memory_channel(document: Table, judge: Judge) -> None:
    """messaging.knative.dev/v1 InMemoryChannel."""
    _judge_scope(document, judge)
    _judge_subscribers(spec_of(document), judge)


def judge_kafka_channel(document: Table, judge: Judge) -> None:
    """messaging.knative.dev KafkaChannel; a number that is 0 is filled in as 1."""
    spec = spec_of(document)
    _judge_scope(document, judge)
    for name in ("numPartitions", "replicationFactor"):
        judge.check_number(child(spec, name), 0, INT32)
    lasting = child(spec, "retentionDuration")
    if lasting is not None and content(lasting):
        judge_lasting(lasting, judge)
    _judge_subscribers(spec, judge)


def _judge_scope(document: Table, judge: Judge) -> None:
    scope = child(document, "metadata", "annotations", _SCOPE)
    if scope is not None and content(scope) not in _SCOPES:
        field = f"metadata.annotations[{_SCOPE}]"
        judge.invalid(scope, "expected either 'cluster' or 'namespace'", field=field)


def _judge_subscribers(spec: Node, judge: Judge) -> None:
    """Subscribers, which the controller writes."""
    for one in entries(spec, "subscribers"):
        if not content(one, "subscriberUri") and not content(one, "replyUri"):
            message = "expected at least one of subscriberUri and replyUri, got none"
            fix = "Write a Subscription: the controller adds its subscriber here."
            judge.say(one, "missing-field", message, fix)


def judge_kafka_source(document: Table, judge: Judge) -> None:
    """sources.knative.dev KafkaSource; it begins at the latest event, and keeps the order."""
    spec = spec_of(document)
    judge_source(spec, judge)
    for name in ("topics", "bootstrapServers"):
        if not entries(spec, name):
            judge.missing(spec, name)
    for name, words in (("initialOffset", _OFFSETS), ("ordering", _ORDERINGS)):
        node = child(spec, name)
        empty = name == "initialOffset" and not content(node)
        if node is not None and not empty and content(node) not in words:
            judge.invalid(node, f"must be {' or '.join(words)}")


def judge_kafka_sink(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 KafkaSink."""
    spec = spec_of(document)
    mode = child(spec, "contentMode")
    if mode is not None and content(mode) and content(mode) not in _MODES:
        judge.invalid(mode, f"must be {' or '.join(_MODES)}")
    if not entries(spec, "bootstrapServers"):
        judge.missing(spec, "bootstrapServers")
    judge.check_filled(spec, "topic")
    for name in ("replicationFactor", "numPartitions"):
        judge.check_number(child(spec, name), 1, INT32)
    secret = child(spec, "auth", "secret", "ref")
    if secret is not None and not content(secret, "name"):
        judge.missing(secret, "name")
