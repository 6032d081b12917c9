"""Which events a Trigger wants: the filter dialects of the CloudEvents Subscriptions API.

Only context attributes can be tested, by their canonical string, case included; a test on an
attribute that the event does not have fails (knative/eventing `pkg/eventfilter`). Data is opaque.
A CESQL expression passes when it is the Boolean true, without an error.
"""

from collections.abc import Callable, Mapping, Sequence

from relume.cesql.program import compile
from relume.cloudevents.event import CloudEvent, canonical
from relume.config import All, Any_, Cesql, Exact, Filter, Negation, Prefix, Suffix, Trigger
from relume.eventing import cesql_verdict as cesql_terms
from relume.eventing.verdict import Dialect, Verdict

Predicate = Callable[[CloudEvent], bool]


def wanted_by(trigger: Trigger) -> Predicate:
    """The test of a Trigger: all of `filters`, else the legacy attributes, else everything.

    `filters` overrides `filter` unless it is empty, as Knative's own Broker filter does. Raises
    `relume.cesql.parser.ParseError` for an expression that the loader would have refused.
    """
    if trigger.filters:
        return all_of(trigger.filters)
    if trigger.legacy_attributes:
        return legacy(trigger.legacy_attributes)
    return lambda _: True


def explain(trigger: Trigger, event: CloudEvent) -> Verdict:
    """The same answer as `wanted_by`, clause by clause."""
    if trigger.filters:
        clauses = _clauses(trigger.filters, "spec.filters", event)
        return _group("all", "spec.filters", clauses)
    if trigger.legacy_attributes:
        attributes = trigger.legacy_attributes
        return _tests_explained("attributes", attributes, "spec.filter.attributes", event)
    return Verdict("none", "spec", "every event", True, {})


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


def exact(attributes: Mapping[str, str]) -> Predicate:
    """Equal strings."""
    return _each(attributes, str.__eq__)


def prefix(attributes: Mapping[str, str]) -> Predicate:
    """Strings that begin so."""
    return _each(attributes, str.startswith)


def suffix(attributes: Mapping[str, str]) -> Predicate:
    """Strings that end so."""
    return _each(attributes, str.endswith)


def _compiled(each: Filter) -> Predicate:
    match each:
        case Exact(attributes):
            return exact(attributes)
        case Prefix(attributes):
            return prefix(attributes)
        case Suffix(attributes):
            return suffix(attributes)
        case All(filters):
            return all_of(filters)
        case Any_(filters):
            predicates = [_compiled(inner) for inner in filters]
            return lambda event: any(predicate(event) for predicate in predicates)
        case Negation(inner):
            predicate = _compiled(inner)
            return lambda event: not predicate(event)
        case Cesql(expression):
            program = compile(expression)
            return lambda event: program.matches(event.attributes)


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


_ANY = " there and not empty"
# How one attribute is tested, and the words for it.
_TESTS: Mapping[Dialect, tuple[Callable[[Mapping[str, str]], Predicate], str]] = {
    "attributes": (legacy, "is"),
    "exact": (exact, "is"),
    "prefix": (prefix, "begins with"),
    "suffix": (suffix, "ends with"),
}


def _explained(each: Filter, field: str, event: CloudEvent) -> Verdict:
    match each:
        case Exact(attributes):
            return _tests_explained("exact", attributes, f"{field}.exact", event)
        case Prefix(attributes):
            return _tests_explained("prefix", attributes, f"{field}.prefix", event)
        case Suffix(attributes):
            return _tests_explained("suffix", attributes, f"{field}.suffix", event)
        case All(filters):
            return _group("all", f"{field}.all", _clauses(filters, f"{field}.all", event))
        case Any_(filters):
            return _group("any", f"{field}.any", _clauses(filters, f"{field}.any", event))
        case Negation(inner):
            clause = _explained(inner, f"{field}.not", event)
            return Verdict(
                "not", f"{field}.not", "not this", not clause.passed, clause.had, (clause,)
            )
        case Cesql(expression):
            return cesql_terms.verdict(expression, f"{field}.cesql", event)


def _clauses(filters: Sequence[Filter], field: str, event: CloudEvent) -> tuple[Verdict, ...]:
    return tuple(_explained(each, f"{field}[{i}]", event) for i, each in enumerate(filters))


def _tests_explained(
    dialect: Dialect, attributes: Mapping[str, str], field: str, event: CloudEvent
) -> Verdict:
    test, words = _TESTS[dialect]
    clauses = tuple(
        Verdict(
            dialect=dialect,
            field=f"{field}.{name}",
            asked=f"{name} {words}" + (f" '{value}'" if value or dialect != "attributes" else _ANY),
            passed=test({name: value})(event),
            had={name: _text(event, name)},
        )
        for name, value in attributes.items()
    )
    return clauses[0] if len(clauses) == 1 else _group(dialect, field, clauses)


def _group(dialect: Dialect, field: str, clauses: tuple[Verdict, ...]) -> Verdict:
    had = {name: value for clause in clauses for name, value in clause.had.items()}
    if dialect == "any":
        passed = any(clause.passed for clause in clauses)
        return Verdict(dialect, field, "one of these", passed, had, clauses, joined="or")
    passed = all(clause.passed for clause in clauses)
    return Verdict(dialect, field, "all of these", passed, had, clauses)
