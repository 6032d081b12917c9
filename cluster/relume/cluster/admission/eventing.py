"""Knative Eventing's kinds, as its webhook judges them.

Source: knative/eventing pkg/apis/{eventing,flows,messaging,sinks}/*/*_validation.go.
"""

import json

from relume.base.vocabulary import BROKER_CLASS
from relume.cluster.admission.delivery import (
    judge_attributes,
    judge_delivery,
    judge_destination,
    judge_filters,
    judge_period,
    judge_reference,
    url_error,
)
from relume.cluster.admission.judge import Judge, child, content, entries, fields, truth
from relume.cluster.admission.metadata import is_label_value
from relume.config.nodes import Node, Table

_DEPENDENCY = "knative.dev/dependency"
_INJECTION = "eventing.knative.dev/injection"
_CROSS_NAMESPACE = "cross-namespace-event-links"
_CORE = ("id", "specversion", "type")


def _spec(document: Table) -> Node:
    return document.get("spec") or document


def judge_broker(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1 Broker; its class and config are filled in where missing."""
    chosen, config = (
        child(document, "metadata", "annotations", BROKER_CLASS),
        child(document, "spec", "config"),
    )
    if chosen is not None and not content(chosen):
        judge.say(chosen, "missing-field", f"missing field(s): {BROKER_CLASS}", field=BROKER_CLASS)
    if config is not None:
        judge_reference(config, judge)
    judge_delivery(child(document, "spec", "delivery"), judge)


def judge_trigger(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1 Trigger."""
    spec = document.get("spec") or Table(document.file, document.line, "spec", {})
    broker, reference = child(spec, "broker"), child(spec, "brokerRef")
    if reference is None and not content(broker):
        judge.missing(spec, "broker")
    elif reference is not None and content(broker):
        judge.several(spec, "broker", "brokerRef")
    elif broker is not None and not is_label_value(content(broker)):
        judge.invalid(broker, "a Broker's name must be a label value")  # metadata.labels has it
    namespace = child(reference, "namespace")
    if namespace is not None and content(namespace) and not judge.cluster.enabled(_CROSS_NAMESPACE):
        message = "must not set the field(s): spec.namespace"
        fix = f"Remove it, or set {_CROSS_NAMESPACE}: enabled in the config-features map."
        judge.say(namespace, "feature-off", message, fix, field="spec.namespace")
    judge_attributes(child(spec, "filter", "attributes"), judge)
    judge_filters(child(spec, "filters"), judge)
    judge_destination(child(spec, "subscriber"), spec, "subscriber", judge)
    judge_delivery(child(spec, "delivery"), judge)
    injection = child(document, "metadata", "annotations", _INJECTION)
    if injection is not None:
        field = f"metadata.annotations[{_INJECTION}]"
        if content(injection) not in ("enabled", "disabled"):
            judge.say(injection, "invalid-value", "must be enabled or disabled", field=field)
        elif content(broker) != "default":
            message = f"only for the Broker named default, not {content(broker)}"
            judge.say(injection, "conflict", message, field=field)
    dependency = child(document, "metadata", "annotations", _DEPENDENCY)
    if dependency is not None:
        _judge_dependency(dependency, content(document, "metadata", "namespace"), judge)


def _judge_dependency(dependency: Node, namespace: str, judge: Judge) -> None:
    """The object that a Trigger waits for, as JSON in an annotation."""
    field = f"metadata.annotations[{_DEPENDENCY}]"
    try:
        reference = json.loads(content(dependency))
    except ValueError:
        reference = None
    if not isinstance(reference, dict):
        judge.say(dependency, "invalid-value", "must be an object reference in JSON", field=field)
        return
    for name in ("kind", "name", "apiVersion"):
        if not reference.get(name):
            message = f"missing field(s): {field}.{name}"
            judge.say(dependency, "missing-field", message, field=f"{field}.{name}")
    own = namespace or "default"
    if reference.get("namespace", own) not in ("", own):
        message = f'Namespace must be empty or equal to the trigger namespace "{own}"'
        judge.say(dependency, "conflict", message, field=f"{field}.namespace")


def judge_sequence(document: Table, judge: Judge) -> None:
    """flows.knative.dev/v1 Sequence."""
    spec = _spec(document)
    if not entries(spec, "steps"):
        judge.missing(spec, "steps")
    for step in entries(spec, "steps"):
        if child(step, "ref") is None and child(step, "uri") is None:
            judge.invalid(step, "expected at least one of ref and uri", shown="{}")
        else:
            judge_destination(step, spec, step.path.rpartition(".")[2], judge)
        judge_delivery(child(step, "delivery"), judge)
    _judge_channel_and_reply(spec, judge)


def judge_parallel(document: Table, judge: Judge) -> None:
    """flows.knative.dev/v1 Parallel."""
    spec = _spec(document)
    if not entries(spec, "branches"):
        judge.missing(spec, "branches")
    for branch in entries(spec, "branches"):
        judge_destination(child(branch, "subscriber"), branch, "subscriber", judge)
        for name in ("filter", "reply"):
            _judge_optional(branch, name, judge)
    _judge_channel_and_reply(spec, judge)


def _judge_channel_and_reply(spec: Node, judge: Judge) -> None:
    if (template := child(spec, "channelTemplate")) is not None:
        judge.check_filled(template, "apiVersion", "kind")
    _judge_optional(spec, "reply", judge)


def _judge_optional(owner: Node, name: str, judge: Judge) -> None:
    if (node := child(owner, name)) is not None:
        judge_destination(node, owner, name, judge)


def judge_subscription(document: Table, judge: Judge) -> None:
    """messaging.knative.dev/v1 Subscription."""
    spec = _spec(document)
    channel, namespace = child(spec, "channel"), child(spec, "channel", "namespace")
    if channel is None or not fields(channel):
        judge.missing(spec, "channel")
        return
    judge_reference(channel, judge)
    if namespace is not None and content(namespace) and not judge.cluster.enabled(_CROSS_NAMESPACE):
        judge.closed(namespace, _CROSS_NAMESPACE)
    if not fields(spec, "subscriber"):
        judge.missing(spec, "subscriber")
    for name in ("subscriber", "reply"):
        if fields(spec, name):
            judge_destination(child(spec, name), spec, name, judge)
    judge_delivery(child(spec, "delivery"), judge)


def judge_event_type(document: Table, judge: Judge) -> None:
    """eventing.knative.dev EventType: v1beta3 lists attributes, older versions have fields."""
    spec, version = _spec(document), content(document, "apiVersion").rpartition("/")[2]
    if version == "v1beta3":
        names = {content(one, "name") for one in entries(spec, "attributes")}
        for name in ("type", "source", "specversion", "id"):
            if name not in names:
                where = f"{spec.path or 'spec'}.attributes.{name}"
                at, message = child(spec, "attributes") or spec, f"missing field(s): {where}"
                judge.say(at, "missing-field", message, field=where)
        return
    judge.check_filled(spec, "type", path="spec")
    for name in ("source", "schema"):
        node = child(spec, name)
        if node is None:
            continue
        empty = not content(node) and name == "source" and version == "v1beta1"
        if (why := "must not be empty" if empty else url_error(content(node))) is not None:
            judge.invalid(node, why)


def judge_event_policy(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 EventPolicy: only where authentication is on."""
    spec = _spec(document)
    if not judge.cluster.enabled("authentication-oidc"):
        judge.say(
            document.entries["kind"],
            "feature-off",
            "oidc-authentication feature not enabled: the flag authentication-oidc is off",
            "Leave the EventPolicy out, or set authentication-oidc: enabled in the config-features "
            "map of knative-eventing.",
        )
    for name, choices in (("from", ("ref", "sub")), ("to", ("ref", "selector"))):
        for one in entries(spec, name):
            judge.check_one_of(one, *choices)
            if (reference := child(one, "ref")) is not None:
                judge_reference(reference, judge)
    judge_filters(child(spec, "filters"), judge)


def judge_request_reply(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 RequestReply."""
    spec = _spec(document)
    reference, timeout = child(spec, "brokerRef"), child(spec, "timeout")
    if reference is None:
        judge.missing(spec, "brokerRef")
    else:
        judge_reference(reference, judge)
        kind, namespace = child(reference, "kind"), child(reference, "namespace")
        if kind is not None and content(kind).lower() != "broker":
            judge.invalid(kind, "must be Broker")
        if namespace is not None and content(namespace):
            judge.not_allowed(namespace)
    if timeout is not None and content(timeout):
        judge_period(timeout, judge)
    for name in ("correlationAttribute", "replyAttribute"):
        node = child(spec, name)
        if node is not None and content(node) in _CORE:
            judge.invalid(node, "must not be a core attribute")
    judge_delivery(child(spec, "delivery"), judge)


def judge_event_transform(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 EventTransform."""
    spec = _spec(document)
    if child(spec, "jsonata") is None:
        judge.missing(spec, "jsonata")
    _judge_optional(spec, "sink", judge)
    reply = child(spec, "reply")
    if reply is None:
        return
    if child(spec, "sink") is None:
        judge.say(reply, "conflict", "reply is set without spec.sink")
    elif child(reply, "jsonata") is not None and truth(reply, "discard"):
        judge.several(reply, "jsonata", "discard")


def judge_job_sink(document: Table, judge: Judge) -> None:
    """sinks.knative.dev/v1alpha1 JobSink."""
    if child(_spec(document), "job") is None:
        judge.missing(_spec(document), "job")
