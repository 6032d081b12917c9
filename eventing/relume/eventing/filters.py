"""Which events a Trigger wants: the filter dialects of the CloudEvents Subscriptions API.

Only context attributes can be tested, by their canonical string, case included; a test on an
attribute that the event does not have fails (knative/eventing `pkg/eventfilter`). Data is opaque.
"""

from collections.abc import Callable, Mapping, Sequence

from relume.config import All, Any_, Exact, Filter, Not, Prefix, Suffix, Trigger
from relume.eventing.event import CloudEvent, canonical

Predicate = Callable[[CloudEvent], bool]


def wanted_by(trigger: Trigger) -> Predicate:
    """The test of a Trigger: all of `filters`, else the legacy attributes, else everything.

    `filters` overrides `filter` unless it is empty, as Knative's own Broker filter does.
    """
    if trigger.filters:
        return all_of(trigger.filters)
    if trigger.legacy_attributes:
        return legacy(trigger.legacy_attributes)
    return lambda _: True


def all_of(filters: Sequence[Filter]) -> Predicate:
    """Every one of the filters passes; none given passes."""
    predicates = [_compiled(each) for each in filters]
    if len(predicates) == 1:
        return predicates[0]
    return lambda event: all(predicate(event) for predicate in predicates)


def legacy(attributes: Mapping[str, str]) -> Predicate:
    """`spec.filter.attributes`: equal strings; "" asks for any value that is not empty."""
    expected = tuple(attributes.items())

    def passes(event: CloudEvent) -> bool:
        for name, value in expected:
            actual = _text(event, name)
            if not actual if value == "" else actual != value:
                return False
        return True

    return passes


def _compiled(each: Filter) -> Predicate:
    match each:
        case Exact(attributes):
            return _each(attributes, str.__eq__)
        case Prefix(attributes):
            return _each(attributes, str.startswith)
        case Suffix(attributes):
            return _each(attributes, str.endswith)
        case All(filters):
            return all_of(filters)
        case Any_(filters):
            predicates = [_compiled(inner) for inner in filters]
            return lambda event: any(predicate(event) for predicate in predicates)
        case Not(inner):
            predicate = _compiled(inner)
            return lambda event: not predicate(event)


def _each(attributes: Mapping[str, str], compare: Callable[[str, str], bool]) -> Predicate:
    expected = tuple(attributes.items())

    def passes(event: CloudEvent) -> bool:
        for name, value in expected:
            actual = _text(event, name)
            if actual is None or not compare(actual, value):
                return False
        return True

    return passes


def _text(event: CloudEvent, name: str) -> str | None:
    value = event.attributes.get(name)
    return None if value is None else canonical(value)
