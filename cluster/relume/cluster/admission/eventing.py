"""Knative Eventing's kinds, as its webhook judges them.

Source: knative/eventing pkg/apis/{eventing,flows,messaging,sinks}/*/*_validation.go.
"""

import json
from collections.abc import Callable

from relume.base.vocabulary import BROKER_CLASS
from relume.cluster.admission.delivery import (
    judge_attributes,
    judge_delivery,
    judge_destination,
    judge_filters,
    judge_period,
    judge_reference,
)
from relume.cluster.admission.judge import Judge, child, content, entries, fields, truth
from relume.cluster.admission.syntax import is_label_value, url_error
from relume.config.nodes import Node, Table

_DEPENDENCY = "knative.dev/dependency"
_INJECTION = "eventing.knative.dev/injection"
_CORE = ("id", "specversion", "type")


def judge_broker(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1 Broker; its class and config are filled in where missing."""
    spec = fields(document.get("spec"))
    chosen = fields(child(document, "metadata", "annotations")).get(BROKER_CLASS)
    if chosen is not None and not content(chosen):
        judge.say(chosen, "missing-field", f"missing field(s): {BROKER_CLASS}", field=BROKER_CLASS)
    if "config" in spec:
        judge_reference(spec["config"], judge)
    judge_delivery(spec.get("delivery"), judge)


def judge_trigger(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1 Trigger."""
    spec = document.get("spec")
    where = spec or Table(document.file, document.line, "spec", {})
    inside = fields(spec)
    broker, reference = content(inside.get("broker")), inside.get("brokerRef")
    if reference is None and not broker:
        judge.missing(where, "broker")
    elif reference is not None and broker:
        judge.several(where, "broker", "brokerRef")
    elif not is_label_value(broker):  # the webhook writes it into metadata.labels
        judge.invalid(inside["broker"], "a Broker's name must be a label value")
    namespace = fields(reference).get("namespace")
    if namespace is not None and content(namespace):
        flag = "cross-namespace-event-links"
        if not judge.cluster.enabled(flag):
            message = "must not set the field(s): spec.namespace"
            fix = f"Remove it, or set {flag}: enabled in the config-features map."
            judge.say(namespace, "feature-off", message, fix, field="spec.namespace")
    judge_attributes(fields(inside.get("filter")).get("attributes"), judge)
    judge_filters(inside.get("filters"), judge)
    judge_destination(inside.get("subscriber"), where, "subscriber", judge)
    judge_delivery(inside.get("delivery"), judge)
    _judge_trigger_annotations(document, broker, judge)


def _judge_trigger_annotations(document: Table, broker: str, judge: Judge) -> None:
    annotations = fields(child(document, "metadata", "annotations"))
    injection = annotations.get(_INJECTION)
    if injection is not None:
        field = f"metadata.annotations[{_INJECTION}]"
        if content(injection) not in ("enabled", "disabled"):
            judge.say(injection, "invalid-value", "must be enabled or disabled", field=field)
        elif broker != "default":
            message = f"only for the Broker named default, not {broker}"
            judge.say(injection, "conflict", message, field=field)
    dependency = annotations.get(_DEPENDENCY)
    if dependency is None:
        return
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
    own = content(child(document, "metadata", "namespace")) or "default"
    if reference.get("namespace", own) not in ("", own):
        message = f'Namespace must be empty or equal to the trigger namespace "{own}"'
        judge.say(dependency, "conflict", message, field=f"{field}.namespace")


def judge_sequence(document: Table, judge: Judge) -> None:
    """flows.knative.dev/v1 Sequence."""
    spec = document.get("spec") or document
    steps = entries(fields(spec).get("steps"))
    if not steps:
        judge.missing(spec, "steps")
    for step in steps:
        inside = fields(step)
        if "ref" not in inside and "uri" not in inside:
            judge.invalid(step, "expected at least one of ref and uri", shown="{}")
        else:
            judge_destination(step, spec, step.path.rpartition(".")[2], judge)
        judge_delivery(inside.get("delivery"), judge)
    _judge_channel(fields(spec).get("channelTemplate"), judge)
    _judge_optional(spec, "reply", judge)


def judge_parallel(document: Table, judge: Judge) -> None:
    """flows.knative.dev/v1 Parallel."""
    spec = document.get("spec") or document
    branches = entries(fields(spec).get("branches"))
    if not branches:
        judge.missing(spec, "branches")
    for branch in branches:
        judge_destination(fields(branch).get("subscriber"), branch, "subscriber", judge)
        for name in ("filter", "reply"):
            _judge_optional(branch, name, judge)
    _judge_channel(fields(spec).get("channelTemplate"), judge)
    _judge_optional(spec, "reply", judge)


def judge_subscription(document: Table, judge: Judge) -> None:
    """messaging.knative.dev/v1 Subscription."""
    spec = document.get("spec") or document
    inside = fields(spec)
    if not fields(inside.get("channel")):
        judge.missing(spec, "channel")
        return
    judge_reference(inside["channel"], judge)
    namespace = fields(inside["channel"]).get("namespace")
    flag = "cross-namespace-event-links"
    if namespace is not None and content(namespace) and not judge.cluster.enabled(flag):
        judge.closed(namespace, flag)
    if not fields(inside.get("subscriber")):
        judge.missing(spec, "subscriber")
    else:
        judge_destination(inside["subscriber"], spec, "subscriber", judge)
    if fields(inside.get("reply")):
        judge_destination(inside["reply"], spec, "reply", judge)
    judge_delivery(inside.get("delivery"), judge)


def judge_event_type(document: Table, judge: Judge) -> None:
    """eventing.knative.dev EventType: v1beta3 lists attributes."""
    spec = document.get("spec") or document
    if content(document.get("apiVersion")) != "eventing.knative.dev/v1beta3":
        _judge_older_type(spec, content(document.get("apiVersion")).rpartition("/")[2], judge)
        return
    attributes = fields(spec).get("attributes")
    names = {content(fields(one).get("name")) for one in entries(attributes)}
    for name in ("type", "source", "specversion", "id"):
        if name not in names:
            where = f"{spec.path or 'spec'}.attributes.{name}"
            judge.say(
                attributes or spec, "missing-field", f"missing field(s): {where}", field=where
            )


def _judge_older_type(spec: Node, version: str, judge: Judge) -> None:
    inside = fields(spec)
    if not content(inside.get("type")):
        judge.missing(spec, "type", path="spec")
    for name in ("source", "schema"):
        node = inside.get(name)
        if node is None:
            continue
        empty = not content(node) and name == "source" and version == "v1beta1"
        if (why := "must not be empty" if empty else url_error(content(node))) is not None:
            judge.invalid(node, why)


def judge_event_policy(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 EventPolicy: only where authentication is on."""
    spec = document.get("spec") or document
    if not judge.cluster.enabled("authentication-oidc"):
        judge.closed(document.entries["kind"], "authentication-oidc")
    for name, choices in (("from", ("ref", "sub")), ("to", ("ref", "selector"))):
        for one in entries(fields(spec).get(name)):
            chosen = [choice for choice in choices if choice in fields(one)]
            if len(chosen) > 1:
                judge.several(one, *chosen)
            elif not chosen:
                judge.missing(one, *choices, reason="one-of")
            if "ref" in chosen:
                judge_reference(fields(one)["ref"], judge)
    judge_filters(fields(spec).get("filters"), judge)


def judge_request_reply(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 RequestReply."""
    spec = document.get("spec") or document
    inside = fields(spec)
    reference = inside.get("brokerRef")
    if reference is None:
        judge.missing(spec, "brokerRef")
    else:
        judge_reference(reference, judge)
        kind, namespace = (fields(reference).get(name) for name in ("kind", "namespace"))
        if kind is not None and content(kind).lower() != "broker":
            judge.invalid(kind, "must be Broker")
        if namespace is not None and content(namespace):
            judge.not_allowed(namespace)
    if "timeout" in inside and content(inside["timeout"]):
        judge_period(inside["timeout"], judge)
    for name in ("correlationAttribute", "replyAttribute"):
        if content(inside.get(name)) in _CORE:
            judge.invalid(inside[name], "must not be a core attribute")
    judge_delivery(inside.get("delivery"), judge)


def judge_event_transform(document: Table, judge: Judge) -> None:
    """eventing.knative.dev/v1alpha1 EventTransform."""
    spec = document.get("spec") or document
    inside = fields(spec)
    if "jsonata" not in inside:
        judge.missing(spec, "jsonata")
    _judge_optional(spec, "sink", judge)
    reply = inside.get("reply")
    if reply is None:
        return
    if "sink" not in inside:
        judge.say(reply, "conflict", "reply is set without spec.sink")
    elif "jsonata" in fields(reply) and truth(fields(reply).get("discard")):
        judge.several(reply, "jsonata", "discard")


def judge_job_sink(document: Table, judge: Judge) -> None:
    """sinks.knative.dev/v1alpha1 JobSink."""
    spec = document.get("spec") or document
    if "job" not in fields(spec):
        judge.missing(spec, "job")


def _judge_channel(template: Node | None, judge: Judge) -> None:
    for name in ("apiVersion", "kind"):
        if template is not None and not content(fields(template).get(name)):
            judge.missing(template, name)


def _judge_optional(owner: Node, name: str, judge: Judge) -> None:
    if name in fields(owner):
        judge_destination(fields(owner)[name], owner, name, judge)


RULES: dict[tuple[str, str], Callable[[Table, Judge], None]] = {
    ("eventing.knative.dev", "Broker"): judge_broker,
    ("eventing.knative.dev", "Trigger"): judge_trigger,
    ("eventing.knative.dev", "EventType"): judge_event_type,
    ("eventing.knative.dev", "EventPolicy"): judge_event_policy,
    ("eventing.knative.dev", "RequestReply"): judge_request_reply,
    ("eventing.knative.dev", "EventTransform"): judge_event_transform,
    ("flows.knative.dev", "Sequence"): judge_sequence,
    ("flows.knative.dev", "Parallel"): judge_parallel,
    ("messaging.knative.dev", "Subscription"): judge_subscription,
    ("sinks.knative.dev", "JobSink"): judge_job_sink,
}
