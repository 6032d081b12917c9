"""Read PingSources and SinkBindings (knative/eventing `pkg/apis/sources/v1`)."""

import base64
import binascii
import json
import re
from collections.abc import Mapping

from relume.base.vocabulary import KNATIVE_SERVING_V1
from relume.config.eventing import leave_out_annotations, read_destination
from relume.config.fields import Fields, Resource
from relume.config.head import namespace_name
from relume.config.nodes import Node, Table
from relume.config.resources import PingSource, Ref, SinkBinding
from relume.config.schedules import Schedule, zone_named

PING_SPEC = Fields.of("sink ceOverrides schedule timezone contentType data dataBase64")
BINDING_SPEC = Fields.of("sink ceOverrides subject")
OVERRIDES = Fields.of("extensions")
SUBJECT = Fields.of(
    "apiVersion kind name namespace",
    refused={"nothing on this machine selects by label: write name": "selector"},
)
_EXTENSION = re.compile(r"[a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTEXT = ("id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject")
_NO_CORE = (*_CONTEXT, "time", "data")


def read_ping_source(resource: Resource) -> PingSource:
    """The PingSource of `resource`, with the defaults of Knative's webhook."""
    spec = resource.body.need("spec", "write spec.sink").table()
    PING_SPEC.check(spec, resource)
    leave_out_annotations(resource)
    timezone, content_type = _text(spec.get("timezone")), _text(spec.get("contentType"))
    return PingSource(
        namespace=resource.namespace,
        name=resource.name,
        sink=read_destination(spec.need("sink", "write sink.ref or sink.uri"), resource),
        schedule=_schedule(spec.get("schedule"), spec.get("timezone")),
        timezone=timezone,
        content_type=content_type,
        data=_data(spec, content_type),
        extensions=_overrides(spec.get("ceOverrides"), resource) or {},
        origin=resource.origin,
    )


def read_sink_binding(resource: Resource) -> SinkBinding:
    """The SinkBinding of `resource`; only a Service can be its subject on this machine."""
    spec = resource.body.need("spec", "write spec.sink and spec.subject").table()
    BINDING_SPEC.check(spec, resource)
    leave_out_annotations(resource)
    return SinkBinding(
        namespace=resource.namespace,
        name=resource.name,
        sink=read_destination(spec.need("sink", "write sink.ref or sink.uri"), resource),
        subject=_subject(spec.need("subject", "name the Service").table(), resource),
        extensions=_overrides(spec.get("ceOverrides"), resource),
        origin=resource.origin,
    )


def _plain(node: Node) -> str:
    """Text that an attribute of an event can hold (CloudEvents 1.0.2, "Type System")."""
    if _CONTROL.search(node.text()):
        raise node.wrong("no attribute of an event holds a control character")
    return node.text()


def _text(node: Node | None) -> str | None:
    """The text of a field; an empty one counts as absent."""
    return None if node is None else _plain(node) or None


def _schedule(node: Node | None, timezone: Node | None) -> str:
    zone = _text(timezone)
    try:
        zone_named(zone)
    except ValueError as error:
        assert timezone is not None
        raise timezone.wrong(f"invalid value: {error}") from None
    text = _text(node) or "* * * * *"
    try:
        Schedule(text, zone)
    except ValueError as error:
        assert node is not None
        raise node.wrong(f"invalid value: {text}: {error}") from None
    return text


def _data(spec: Table, content_type: str | None) -> bytes | None:
    plain, encoded = spec.get("data"), spec.get("dataBase64")
    if plain is not None and encoded is not None and plain.text() and encoded.text():
        raise encoded.wrong("expected exactly one, got both: write data or dataBase64")
    node = encoded if encoded is not None and encoded.text() else plain
    if node is None or not node.text():
        return None
    data = node.text().encode()
    if node is encoded:
        try:
            data = base64.b64decode(node.text(), validate=True)
        except binascii.Error as error:
            raise node.wrong(f"invalid value: it is no base64: {error}") from None
    if content_type == "application/json" and not _is_json_object(data):
        raise node.wrong("invalid value: it is no JSON object, which contentType says it is")
    return data


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _overrides(node: Node | None, resource: Resource) -> Mapping[str, str] | None:
    """The extensions of `ceOverrides`; None without overrides."""
    if node is None:
        return None
    OVERRIDES.check(node.table(), resource)
    extensions = node.table().get("extensions")
    if extensions is None:
        return {}
    for name, value in extensions.table():
        if not _EXTENSION.fullmatch(name) or name in _NO_CORE:
            raise value.wrong(
                f"invalid key name: {name}: write an extension of lower case letters and digits"
            )
        _plain(value)
    return extensions.table().texts()


def _subject(table: Table, resource: Resource) -> Ref:
    SUBJECT.check(table, resource)
    kind = table.need("kind", "write Service")
    if kind.text() != "Service":
        raise kind.wrong(f"{kind.text()} is not run on this machine: write Service")
    version = table.need("apiVersion", f"write {KNATIVE_SERVING_V1}")
    if version.text() != KNATIVE_SERVING_V1:
        raise version.wrong(
            f"{version.text()} is not known for Service: write {KNATIVE_SERVING_V1}"
        )
    namespace = table.get("namespace")
    if namespace is not None and namespace_name(namespace) != resource.namespace:
        raise namespace.wrong("a SinkBinding and its subject are in one namespace")
    name = table.need("name", "name the Service").filled()
    return Ref("Service", resource.namespace, name, KNATIVE_SERVING_V1)
