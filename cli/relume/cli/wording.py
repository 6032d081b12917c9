"""Triggers in words: which events they take, and where they send them."""

from collections.abc import Mapping

from relume.config import (
    All,
    Any_,
    Cesql,
    Destination,
    Exact,
    Filter,
    Not,
    Prefix,
    Suffix,
    Trigger,
)
from relume.config.urls import without_secrets


def target(destination: Destination) -> str:
    """A destination in words: kind and name, or the URL."""
    if destination.ref is None:
        return without_secrets(destination.uri or "")
    return f"{destination.ref.kind} {destination.ref.name}{destination.uri or ''}"


def events_of(trigger: Trigger) -> str:
    """Which events a Trigger takes, in words."""
    if trigger.filters:
        one = len(trigger.filters) == 1
        return _words(trigger.filters[0] if one else All(trigger.filters))
    if trigger.filters is None and trigger.legacy_attributes:
        return _pairs(trigger.legacy_attributes, "=")
    return "all"


def _words(filter_: Filter) -> str:
    match filter_:
        case Exact(attributes):
            return _pairs(attributes, "=")
        case Prefix(attributes):
            return _pairs(attributes, "^=")
        case Suffix(attributes):
            return _pairs(attributes, "$=")
        case All(filters):
            return " and ".join(map(_inner, filters))
        case Any_(filters):
            return " or ".join(map(_inner, filters))
        case Not(negated):
            return f"not {_inner(negated)}"
        case Cesql(expression):
            return in_one_line(expression)


def in_one_line(expression: str) -> str:
    """An expression that may be written over several lines, for a table."""
    return " ".join(expression.split())


def _inner(filter_: Filter) -> str:
    words = _words(filter_)
    return f"({words})" if isinstance(filter_, All | Any_ | Cesql) else words


def _pairs(attributes: Mapping[str, str], sign: str) -> str:
    return ", ".join(f"{name}{sign}{value}" for name, value in attributes.items())
