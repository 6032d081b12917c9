"""Read Brokers and Triggers: filters, destinations (`ref`, `uri`) and `delivery`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from relume.base.vocabulary import (
    BROKER_CLASS,
    DELIVERY_ORDER,
    KNATIVE_EVENTING_V1,
    KNATIVE_EVENTING_V1ALPHA1,
    KNATIVE_FLOWS_V1,
    KNATIVE_SERVING_V1,
    KSERVE_V1BETA1,
    PARALLELISM,
)
from relume.cesql.parser import ParseError, parse
from relume.config.broker_classes import left_out
from relume.config.durations import iso8601_duration, read_seconds
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.head import namespace_name
from relume.config.llm_d import POOL_API, POOL_KIND
from relume.config.nodes import Node, Table
from relume.config.resources import (
    All,
    Any_,
    Broker,
    Cesql,
    Delivery,
    Destination,
    Exact,
    Filter,
    Negation,
    Prefix,
    Ref,
    Suffix,
    Trigger,
)

BROKER_SPEC = Fields.of(
    "delivery", harmless={"every Broker is stored in JetStream on this machine": "config"}
)
TRIGGER_SPEC = Fields.of(
    "broker subscriber filter filters delivery",
    refused={"a Trigger is in its Broker's namespace: write broker": "brokerRef"},
)
LEGACY_FILTER = Fields.of("attributes")
FILTER = Fields.of("exact prefix suffix all any not cesql")
DESTINATION = Fields.of(
    "ref uri",
    refused={
        "certificates of the system are used: write an address that they cover": "CACerts",
        "no identity tokens are issued here": "audience",
    },
)
REF = Fields.of(
    "apiVersion kind name namespace",
    refused={"write apiVersion": "group", "write uri": "address"},
)
DELIVERY = Fields.of(
    "retry backoffPolicy backoffDelay timeout deadLetterSink retryAfterMax",
    harmless={"every event is delivered in binary mode, which every subscriber reads": "format"},
)
# What a ref can name on this machine, and the version of each.
ADDRESSABLE: Mapping[str, str] = {
    "InferenceService": KSERVE_V1BETA1,
    "Service": KNATIVE_SERVING_V1,
    "Broker": KNATIVE_EVENTING_V1,
    "Sequence": KNATIVE_FLOWS_V1,
    "Parallel": KNATIVE_FLOWS_V1,
    "RequestReply": KNATIVE_EVENTING_V1ALPHA1,
    POOL_KIND: POOL_API,
}
_ADDRESSABLE = ", ".join(ADDRESSABLE)
_SERVICE = {"kind": "InferenceService", "api_version": KSERVE_V1BETA1}
COMPARISONS: Mapping[str, Callable[[Mapping[str, str]], Filter]] = {
    "exact": Exact,
    "prefix": Prefix,
    "suffix": Suffix,
}
ATTRIBUTE_NAME = re.compile(r"[a-z][a-z0-9]*")
_ATTRIBUTE_RULE = (
    "Attribute name must start with a letter and can only contain lowercase alphanumeric"
)


def read_broker(resource: Resource) -> Broker:
    """The Broker of `resource`; an empty or missing spec is fine."""
    spec = resource.body.get("spec")
    delivery = None
    if spec is not None:
        BROKER_SPEC.check(spec.table(), resource)
        delivery = read_delivery(spec.table().get("delivery"), resource)
    chosen = resource.annotations.get(BROKER_CLASS)
    leave_out_annotations(resource)
    return Broker(
        namespace=resource.namespace,
        name=resource.name,
        broker_class=None if chosen is None else chosen.text(),
        delivery=delivery,
        origin=resource.origin,
    )


def read_trigger(resource: Resource) -> Trigger:
    """The Trigger of `resource`; whether its Broker and subscriber exist is checked later."""
    spec = resource.body.need("spec", "write spec.broker and spec.subscriber").table()
    TRIGGER_SPEC.check(spec, resource)
    broker = spec.need("broker", "name the Broker").filled()
    subscriber = spec.need("subscriber", "write spec.subscriber.ref or spec.subscriber.uri")
    filters = spec.get("filters")
    leave_out_annotations(resource)
    return Trigger(
        namespace=resource.namespace,
        name=resource.name,
        broker=broker,
        subscriber=read_destination(subscriber, resource),
        # An empty list counts as absent.
        filters=(_read_filters(filters, resource) or None) if filters is not None else None,
        legacy_attributes=_legacy(spec.get("filter"), resource),
        delivery=read_delivery(spec.get("delivery"), resource),
        ordered=_ordered(resource.annotations.get(DELIVERY_ORDER)),
        parallelism=_parallelism(resource.annotations.get(PARALLELISM)),
        origin=resource.origin,
    )


def _ordered(node: Node | None) -> bool:
    return node is not None and node.one_of("ordered", "unordered") == "ordered"


def _parallelism(node: Node | None) -> int | None:
    """A number from 1 to 1,000, as eventing-rabbitmq takes it."""
    if node is None:
        return None
    text = node.text()
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1000):
        raise node.wrong(f"invalid value: {text}: write a number from 1 to 1000")
    return int(text)


def _read_filters(node: Node, resource: Resource) -> tuple[Filter, ...]:
    return tuple(_read_filter(item, resource) for item in node.items())


def _read_filter(node: Node, resource: Resource) -> Filter:
    """Read one filter, which has exactly one dialect."""
    table = node.table()
    FILTER.check(table, resource)
    dialects = list(table)
    if len(dialects) > 1:
        raise node.wrong("multiple dialects found, filters can have only one dialect set")
    if not dialects:
        raise node.wrong(f"write one of {', '.join(sorted(FILTER.honoured))}")
    dialect, value = dialects[0]
    match dialect:
        case "exact" | "prefix" | "suffix":
            return COMPARISONS[dialect](_attributes(value.table()))
        case "not":
            return Negation(_read_filter(value, resource))
        case "cesql":
            return Cesql(_expression(value))
        case _:
            nested = _read_filters(value, resource)
            if not nested:
                raise value.wrong("must contain at least one filter")
            return All(nested) if dialect == "all" else Any_(nested)


def _attributes(table: Table) -> Mapping[str, str]:
    """Attribute names and the values to compare, neither of them empty."""
    _check_names(table)
    attributes = {name: node.filled() for name, node in table}
    if not attributes:
        raise table.wrong("must name at least one attribute")
    return attributes


def _expression(node: Node) -> str:
    text = node.filled()
    try:
        parse(text)
    except ParseError as error:
        raise node.wrong(f"is no CESQL expression: {error}") from None
    return text


def _legacy(node: Node | None, resource: Resource) -> Mapping[str, str] | None:
    if node is None:
        return None
    LEGACY_FILTER.check(node.table(), resource)
    attributes = node.table().get("attributes")
    if attributes is None:
        return None
    _check_names(attributes.table())
    return attributes.table().texts() or None


def _check_names(table: Table) -> None:
    for name, node in table.entries.items():
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise node.wrong(f'invalid key name "{name}": {_ATTRIBUTE_RULE}')


def leave_out_annotations(resource: Resource) -> None:
    """Note annotations of Knative and its Brokers; others are the user's own."""
    for key, node in resource.annotations.items():
        if key == BROKER_CLASS and resource.kind == "Broker":
            resource.leave_out(node, left_out(node.text()))
        elif key in (DELIVERY_ORDER, PARALLELISM) and resource.kind == "Trigger":
            continue  # read, or left out by the class of its Broker
        elif key.partition("/")[0].endswith("knative.dev"):
            resource.leave_out(node, "the annotation has no effect on this machine")


def read_destination(node: Node, resource: Resource, allowed: Fields = DESTINATION) -> Destination:
    """A `ref`, a `uri`, or a relative `uri` on a `ref`, as Knative's Destination has it.

    `allowed` are the fields of its table, where that has more.
    """
    table = node.table()
    allowed.check(table, resource)
    ref_node, uri_node = table.get("ref"), table.get("uri")
    if ref_node is None and uri_node is None:
        raise node.wrong("expected at least one, got none: write ref or uri")
    ref = None if ref_node is None else read_ref(ref_node.table(), resource)
    if uri_node is None:
        return Destination(ref=ref)
    return Destination(ref=ref, uri=_url(uri_node) if ref is None else _path(uri_node))


def read_ref(table: Table, resource: Resource) -> Ref:
    """A reference to a resource that has an address on this machine."""
    REF.check(table, resource)
    kind_node = table.need("kind", f"known are {_ADDRESSABLE}")
    kind = kind_node.text()
    if kind not in ADDRESSABLE:
        hint = did_you_mean(kind, ADDRESSABLE)
        why = f"{kind} is not on this machine: known kinds are {_ADDRESSABLE}{hint}"
        resource.cannot_run(kind_node.origin, why)
    version = _api_version(table, kind)
    if version is not None and version.text() != ADDRESSABLE.get(kind, version.text()):
        raise version.wrong(f"{version.text()} is not known for {kind}: write {ADDRESSABLE[kind]}")
    name = table.need("name", f"name the {kind}").filled()
    namespace = table.get("namespace")
    ref = Ref(
        kind=kind,
        namespace=resource.namespace if namespace is None else namespace_name(namespace),
        name=name,
        api_version="" if version is None else version.text(),
    )
    # On one machine a pool is the service of its name, whose replicas are its members.
    return replace(ref, **_SERVICE) if kind == POOL_KIND else ref


def _api_version(table: Table, kind: str) -> Node | None:
    """`apiVersion` of a ref; one may write `group` instead, which not every kind is found by."""
    if kind not in ADDRESSABLE and table.get("group") is not None:
        return table.get("apiVersion")
    version = ADDRESSABLE.get(kind, "the version of its API")
    return table.need("apiVersion", f"write {version}")


def _path(node: Node) -> str:
    """A path on the ref, with a / in front whether or not it was written."""
    uri = node.filled()
    if _parts(node).scheme or uri.startswith("//"):
        raise node.wrong("an absolute URI is not allowed beside a ref: write a path")
    return uri if uri.startswith("/") else f"/{uri}"


def _url(node: Node) -> str:
    uri = node.filled()
    parts = _parts(node)
    if not parts.scheme or not parts.hostname:
        raise node.wrong("a relative URI is not allowed without a ref: write http://host/path")
    if parts.scheme not in ("http", "https"):
        raise node.wrong(f"invalid value: {uri}: events are sent over http or https")
    return uri


def _parts(node: Node) -> SplitResult:
    """The parts of a URI; raises InvalidManifest for another text."""
    uri = node.text()
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise node.wrong(f"invalid value: {uri}: {error}") from error
    if any(character.isspace() or not character.isprintable() for character in uri):
        raise node.wrong(f"invalid value: {uri!r}: no URI has such a character")
    return parts


def read_delivery(node: Node | None, resource: Resource) -> Delivery | None:
    """A DeliverySpec, or None without one: then that of the Broker or the default applies."""
    if node is None:
        return None
    table = node.table()
    DELIVERY.check(table, resource)
    retry, sink = table.get("retry"), table.get("deadLetterSink")
    return Delivery(
        retry=None if retry is None else retry.integer(),
        backoff_policy=_policy(table.get("backoffPolicy")),
        backoff_delay_s=_seconds(table.get("backoffDelay")),
        timeout_s=_timeout(table.get("timeout")),
        dead_letter_sink=None if sink is None else read_destination(sink, resource),
        retry_after_max_s=_seconds(table.get("retryAfterMax")),
    )


def _policy(node: Node | None) -> Literal["linear", "exponential"] | None:
    if node is None:
        return None
    return "linear" if node.one_of("linear", "exponential") == "linear" else "exponential"


def _seconds(node: Node | None) -> float | None:
    return None if node is None else read_seconds(node, iso8601_duration)


def _timeout(node: Node | None) -> float | None:
    seconds = _seconds(node)
    if node is not None and not seconds:
        raise node.wrong(f"invalid value: {node.text()}: must be longer than PT0S")
    return seconds
