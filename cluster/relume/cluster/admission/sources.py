"""Knative Eventing's sources, as its webhook judges them.

Source: knative/eventing pkg/apis/sources/*/*_validation.go and *_defaults.go; knative/pkg
apis/duck/v1/source_types.go, tracker/interface.go.
"""

import base64
import binascii
import json
import re

from relume.cluster.admission.delivery import judge_destination, judge_filters
from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.metadata import is_qualified_name
from relume.cluster.admission.schedules import check_schedule
from relume.config.names import is_dns_label
from relume.config.nodes import Node, Table

_FILTERS = "new-apiserversource-filters"
_MODES = ("Reference", "Resource")
_EXTENSION = re.compile(r"[A-Za-z0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_JSON = "application/json"


def spec_of(document: Table) -> Node:
    """The spec; an empty one where the document has none."""
    return document.get("spec") or Table(document.file, document.line, "spec", {})


def judge_source(spec: Node, judge: Judge) -> None:
    """What every source has: a sink, and attributes that it adds to its events."""
    judge_destination(child(spec, "sink"), spec, "sink", judge)
    judge_overrides(spec, judge)


def judge_overrides(spec: Node, judge: Judge) -> None:
    """`ceOverrides.extensions`: attributes that are set on every event."""
    for name, node in fields(spec, "ceOverrides", "extensions").items():
        if not _EXTENSION.fullmatch(name):
            path = node.path.removesuffix(f".{name}" if name else '.""')
            message = f'invalid key name "{name}": keys are expected to be alphanumeric'
            fix = "Rename the attribute with lower case letters and digits alone."
            judge.say(node, "invalid-value", message, fix, field=path)


def judge_api_server_source(document: Table, judge: Judge) -> None:
    """sources.knative.dev/v1 ApiServerSource."""
    spec = spec_of(document)
    judge_source(spec, judge)
    mode = child(spec, "mode")
    if mode is not None and content(mode) and content(mode) not in _MODES:
        judge.invalid(mode, f"must be {' or '.join(_MODES)}")
    resources = entries(spec, "resources")
    if not resources:
        judge.missing(spec, "resources")
    for one in (*resources, *filter(None, [child(spec, "owner")])):
        _judge_watched(one, judge)
    filters = child(spec, "filters")
    if filters is None or not entries(filters):
        return
    if judge.cluster.enabled(_FILTERS):
        judge_filters(filters, judge)
        return
    message = "Filters is not empty but the NewAPIServerFilters feature is disabled"
    fix = f"Remove the field, or set {_FILTERS}: enabled in Knative Eventing's config-features map."
    judge.say(filters, "feature-off", message, fix)


def _judge_watched(one: Node, judge: Judge) -> None:
    """A kind of objects that is watched."""
    version, kind = child(one, "apiVersion"), child(one, "kind")
    if version is not None and content(version).count("/") > 1:
        judge.invalid(version, "must be a version, or a group and a version: apps/v1")
    if not content(kind).strip():
        judge.missing(one, "kind")


def judge_container_source(document: Table, judge: Judge) -> None:
    """sources.knative.dev/v1 ContainerSource; a container without a name gets one."""
    spec = spec_of(document)
    judge_source(spec, judge)
    containers = entries(spec, "template", "spec", "containers")
    if not containers:
        inside = child(spec, "template", "spec") or child(spec, "template") or spec
        judge.missing(inside, "containers", path="spec.template.spec")
    for container in containers:
        judge.check_filled(container, "image")


def judge_ping_source(document: Table, judge: Judge) -> None:
    """sources.knative.dev PingSource; without a schedule it sends an event each minute."""
    spec = spec_of(document)
    judge_source(spec, judge)
    schedule, zone = child(spec, "schedule"), child(spec, "timezone")
    if schedule is not None and content(schedule):
        _judge_schedule(schedule, judge)
    if zone is not None and content(zone) and not _is_zone(content(zone)):
        fix = "Write a name such as Asia/Tokyo."
        judge.invalid(zone, f"unknown time zone {content(zone)}", fix)
    _judge_data(spec, judge)


def _is_zone(text: str) -> bool:
    """Whether it is a time zone; any text is, on a machine without the database of them."""
    from zoneinfo import available_timezones  # rarely needed, and slow to load

    known = available_timezones()
    return not known or text in {*known, "Local"}


def _judge_schedule(schedule: Node, judge: Judge) -> None:
    """A schedule of cron, with or without a sixth field in front, for seconds."""
    text = content(schedule)
    seconds, _, rest = text.strip().partition(" ")
    parts = (f"{seconds} * * * *", rest) if len(text.split()) == 6 else (text,)
    try:
        if "@every" in text:
            raise ValueError("unsupported descriptor @every")
        for part in parts:
            check_schedule(part)  # seconds have the bounds of minutes
    except ValueError as error:
        fix = 'Write five fields, such as "*/5 * * * *", or @hourly, @daily, @weekly.'
        judge.invalid(schedule, str(error), fix)


def _judge_data(spec: Node, judge: Judge) -> None:
    """The data of each event: text or base64, an object where it is said to be JSON."""
    data, encoded = child(spec, "data"), child(spec, "dataBase64")
    if data is not None and encoded is not None and content(data) and content(encoded):
        judge.several(spec, "data", "dataBase64")
        return
    node, text = (data, content(data)) if content(data) else (encoded, content(encoded))
    if node is None or not text:
        return
    if node is encoded:
        try:
            raw = base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
            text = raw.decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            judge.invalid(node, "illegal base64 data", "Write plain text under data instead.")
            return
    if content(spec, "contentType") == _JSON and not _is_object(text):
        why = "with contentType application/json the data must be a JSON object"
        judge.invalid(node, why, 'Write a JSON object, such as \'{"message": "Hello"}\'.')


def _is_object(text: str) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return value is None or isinstance(value, dict)


def judge_sink_binding(document: Table, judge: Judge) -> None:
    """sources.knative.dev/v1 SinkBinding."""
    spec = spec_of(document)
    judge_source(spec, judge)
    subject = child(spec, "subject")
    if subject is None:
        judge.missing(spec, "apiVersion", path="spec.subject")
        judge.missing(spec, "kind", path="spec.subject")
        judge.missing(spec, "name", "selector", reason="one-of", path="spec.subject")
        return
    judge.check_filled(subject, "apiVersion", "kind")
    chosen = [name for name in ("name", "selector") if name in fields(subject)]
    chosen = [n for n in chosen if n == "selector" or content(subject, n)]
    if len(chosen) > 1:
        judge.several(subject, *chosen)
    elif not chosen:
        judge.missing(subject, "name", "selector", reason="one-of")
    _judge_subject_names(document, subject, judge)


def _judge_subject_names(document: Table, subject: Node, judge: Judge) -> None:
    version, kind, name, namespace = (
        child(subject, one) for one in ("apiVersion", "kind", "name", "namespace")
    )
    if version is not None and content(version) and not is_qualified_name(content(version)):
        judge.invalid(version, "must be a version, or a group and a version: apps/v1")
    if kind is not None and content(kind) and not _IDENTIFIER.fullmatch(content(kind)):
        judge.invalid(kind, "must be a kind, such as Deployment")
    if name is not None and content(name) and not is_dns_label(content(name)):
        judge.invalid(name, "must be at most 63 lower case letters, digits and '-'")
    own = content(document, "metadata", "namespace") or "default"
    if namespace is not None and content(namespace) not in ("", own):
        judge.invalid(namespace, f'must be the namespace of the SinkBinding, "{own}"')
