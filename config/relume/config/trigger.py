"""Read Brokers and Triggers, filters included."""

import re
from collections.abc import Mapping

from relume.cesql.parser import ParseError, parse
from relume.config.broker_classes import BROKER_CLASS, DELIVERY_ORDER, PARALLELISM, left_out
from relume.config.destination import read_delivery, read_destination
from relume.config.eventing import (
    All,
    Any_,
    Broker,
    Cesql,
    Exact,
    Filter,
    Not,
    Prefix,
    Suffix,
    Trigger,
)
from relume.config.fields import Fields, Resource
from relume.config.nodes import Node, Table

BROKER_SPEC = Fields(
    honoured=frozenset({"delivery"}),
    harmless={"config": "every Broker is stored in JetStream on this machine"},
)
TRIGGER_SPEC = Fields(
    honoured=frozenset({"broker", "subscriber", "filter", "filters", "delivery"}),
    refused={"brokerRef": "a Trigger is in its Broker's namespace: write broker"},
)
LEGACY_FILTER = Fields(honoured=frozenset({"attributes"}))
FILTER = Fields(
    honoured=frozenset({"exact", "prefix", "suffix", "all", "any", "not", "cesql"}),
)
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9]*")
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
    _leave_out_annotations(resource)
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
    _leave_out_annotations(resource)
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
    """1 to 1,000 (eventing-rabbitmq)."""
    if node is None:
        return None
    text = node.text()
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1000):
        raise node.wrong(f"invalid value: {text}: write a number from 1 to 1000")
    return int(text)


def _read_filters(node: Node, resource: Resource) -> tuple[Filter, ...]:
    return tuple(_read_filter(item, resource) for item in node.items())


def _read_filter(node: Node, resource: Resource) -> Filter:
    """One filter: exactly one dialect."""
    table = node.table()
    FILTER.check(table, resource)
    dialects = list(table)
    if len(dialects) > 1:
        raise node.wrong("multiple dialects found, filters can have only one dialect set")
    if not dialects:
        raise node.wrong(f"write one of {', '.join(sorted(FILTER.honoured))}")
    dialect, value = dialects[0]
    match dialect:
        case "exact":
            return Exact(_attributes(value.table()))
        case "prefix":
            return Prefix(_attributes(value.table()))
        case "suffix":
            return Suffix(_attributes(value.table()))
        case "not":
            return Not(_read_filter(value, resource))
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
        if not _ATTRIBUTE.fullmatch(name):
            raise node.wrong(f'invalid key name "{name}": {_ATTRIBUTE_RULE}')


def _leave_out_annotations(resource: Resource) -> None:
    """Note annotations of Knative and its Brokers; others are the user's own."""
    for key, node in resource.annotations.items():
        if key == BROKER_CLASS and resource.kind == "Broker":
            resource.leave_out(node, left_out(node.text()))
        elif key in (DELIVERY_ORDER, PARALLELISM) and resource.kind == "Trigger":
            continue  # read, or left out by the class of its Broker
        elif key.partition("/")[0].endswith("knative.dev"):
            resource.leave_out(node, "the annotation has no effect on this machine")
