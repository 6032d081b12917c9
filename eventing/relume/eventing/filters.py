"""Which events a Trigger wants: the filter dialects of the CloudEvents Subscriptions API.

Only context attributes can be tested, by their canonical string, case included; a test on an
attribute that the event does not have fails (knative/eventing `pkg/eventfilter`). Data is opaque.
A CESQL expression passes when it is the Boolean true, without an error.

`wanted_by` gives the answer, and `explain` gives the same answer clause by clause.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from relume.cesql.parser import parse
from relume.cesql.program import Program, compile
from relume.cesql.tree import Attribute, Call, Exists, Expression, Logic, inside
from relume.cesql.values import quoted
from relume.cloudevents.event import CloudEvent, canonical
from relume.config import All, Any_, Cesql, Exact, Filter, Negation, Prefix, Suffix, Trigger

Predicate = Callable[[CloudEvent], bool]
Dialect = Literal["none", "attributes", "exact", "prefix", "suffix", "all", "any", "not", "cesql"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause and what it says about one event.

    `field` is where the clause is written (`spec.filters[0].exact.type`), `asked` what it wants,
    `had` the values of the attributes that it looks at (None: the event has no such attribute).
    `clauses` are those inside it, without the ones that CESQL must not evaluate because the result
    was known before, and `joined` is how they count. `error` is why a CESQL clause has no value.
    """

    dialect: Dialect
    field: str
    asked: str
    passed: bool
    had: Mapping[str, str | None]
    clauses: "tuple[Verdict, ...]" = ()
    joined: Literal["and", "or", "xor"] = "and"
    error: str | None = None

    @property
    def decisive(self) -> "Verdict":
        """The smallest clause that settles the matter by itself.

        If all clauses of an `all` passed, or none of an `any` did, no single clause settles it:
        then it is the group itself.
        """
        deciding = self._deciding()
        return self if deciding is None else deciding.decisive

    def to_json(self) -> dict[str, object]:
        """The whole tree as JSON types."""
        return {
            "dialect": self.dialect,
            "field": self.field,
            "asked": self.asked,
            "passed": self.passed,
            "had": dict(self.had),
            "error": self.error,
            "clauses": [clause.to_json() for clause in self.clauses],
        }

    def _deciding(self) -> "Verdict | None":
        if len(self.clauses) == 1:
            return self.clauses[0]
        if self.error is not None:
            return next((clause for clause in self.clauses if clause.error is not None), None)
        if self.joined == "xor" or self.passed == (self.joined == "and"):
            return None
        return next((clause for clause in self.clauses if clause.passed == self.passed), None)


def wanted_by(trigger: Trigger) -> Predicate:
    """The test of a Trigger: all of `filters`, else the legacy attributes, else everything.

    `filters` overrides `filter` unless it is empty, as in Knative's own Broker filter. Raises
    `relume.cesql.parser.ParseError` for an expression that the loader would have refused.
    """
    if trigger.filters:
        return all_of(trigger.filters)
    if trigger.legacy_attributes:
        return _attributes("attributes", trigger.legacy_attributes)
    return lambda _: True


def explain(trigger: Trigger, event: CloudEvent) -> Verdict:
    """The same answer as `wanted_by`, clause by clause."""
    if trigger.filters:
        return _group("all", "spec.filters", _clauses(trigger.filters, "spec.filters", event))
    if trigger.legacy_attributes:
        attributes = trigger.legacy_attributes
        return _attributes_explained("attributes", attributes, "spec.filter.attributes", event)
    return Verdict("none", "spec", "every event", True, {})


def all_of(filters: Sequence[Filter]) -> Predicate:
    """Every one of the filters passes; none given passes."""
    predicates = [_compiled(each) for each in filters]
    if len(predicates) == 1:
        return predicates[0]
    return lambda event: all(predicate(event) for predicate in predicates)


def _equals_or_any(actual: str, wanted: str) -> bool:
    """`spec.filter.attributes`: an empty string asks for any value that is not empty."""
    return bool(actual) if wanted == "" else actual == wanted


_DIALECTS: Mapping[type, Dialect] = {Exact: "exact", Prefix: "prefix", Suffix: "suffix"}
# How one attribute is tested, and the words for it.
_TESTS: Mapping[Dialect, tuple[Callable[[str, str], bool], str]] = {
    "attributes": (_equals_or_any, "is"),
    "exact": (str.__eq__, "is"),
    "prefix": (str.startswith, "begins with"),
    "suffix": (str.endswith, "ends with"),
}


def _attributes(dialect: Dialect, attributes: Mapping[str, str]) -> Predicate:
    """Every attribute is there and passes the dialect's test."""
    test, expected = _TESTS[dialect][0], tuple(attributes.items())

    def passes(event: CloudEvent) -> bool:
        for name, wanted in expected:
            actual = _text(event, name)
            if actual is None or not test(actual, wanted):
                return False
        return True

    return passes


def _text(event: CloudEvent, name: str) -> str | None:
    value = event.attributes.get(name)
    return None if value is None else canonical(value)


def _compiled(each: Filter) -> Predicate:
    match each:
        case Exact(attributes) | Prefix(attributes) | Suffix(attributes):
            return _attributes(_DIALECTS[type(each)], attributes)
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


def _explained(each: Filter, field: str, event: CloudEvent) -> Verdict:
    match each:
        case Exact(attributes) | Prefix(attributes) | Suffix(attributes):
            dialect = _DIALECTS[type(each)]
            return _attributes_explained(dialect, attributes, f"{field}.{dialect}", event)
        case All(filters):
            return _group("all", f"{field}.all", _clauses(filters, f"{field}.all", event))
        case Any_(filters):
            return _group("any", f"{field}.any", _clauses(filters, f"{field}.any", event))
        case Negation(inner):
            clause = _explained(inner, f"{field}.not", event)
            passed = not clause.passed
            return Verdict("not", f"{field}.not", "not this", passed, clause.had, (clause,))
        case Cesql(expression):
            return _cesql(parse(expression), expression.strip(), f"{field}.cesql", event)


def _clauses(filters: Sequence[Filter], field: str, event: CloudEvent) -> tuple[Verdict, ...]:
    return tuple(_explained(each, f"{field}[{i}]", event) for i, each in enumerate(filters))


def _attributes_explained(
    dialect: Dialect, attributes: Mapping[str, str], field: str, event: CloudEvent
) -> Verdict:
    words = _TESTS[dialect][1]
    clauses = tuple(
        Verdict(
            dialect=dialect,
            field=f"{field}.{name}",
            asked=f"{name} {words} '{wanted}'"
            if wanted or dialect != "attributes"
            else f"{name} is there and not empty",
            passed=_attributes(dialect, {name: wanted})(event),
            had={name: _text(event, name)},
        )
        for name, wanted in attributes.items()
    )
    return clauses[0] if len(clauses) == 1 else _group(dialect, field, clauses)


def _group(dialect: Dialect, field: str, clauses: tuple[Verdict, ...]) -> Verdict:
    had = {name: value for clause in clauses for name, value in clause.had.items()}
    results = [clause.passed for clause in clauses]
    if dialect == "any":
        return Verdict(dialect, field, "one of these", any(results), had, clauses, joined="or")
    return Verdict(dialect, field, "all of these", all(results), had, clauses)


_JOINED: dict[str, Literal["and", "or", "xor"]] = {"AND": "and", "OR": "or", "XOR": "xor"}


def _cesql(node: Expression, text: str, field: str, event: CloudEvent) -> Verdict:
    """What an expression, or one operand of its AND, OR and XOR, says about the event."""
    result = Program(node).evaluate(event.attributes)
    error = None if result.error is None else f"{result.error.kind}: {result.error.message}"
    if error is None and not isinstance(result.value, bool):
        error = f"{quoted(result.value)} is not a Boolean"
    return Verdict(
        dialect="cesql",
        field=field,
        asked=text,
        passed=error is None and result.value is True,
        had={name: _text(event, name) for name in dict.fromkeys(_names(node))},
        clauses=tuple(_evaluated(node, field, event)) if isinstance(node, Logic) else (),
        joined=_JOINED[node.operator] if isinstance(node, Logic) else "and",
        error=error,
    )


def _evaluated(node: Logic, field: str, event: CloudEvent) -> Iterator[Verdict]:
    """The operands up to the one that settles the result; CESQL §3.4.2 evaluates no others."""
    settled = {"AND": False, "OR": True}.get(node.operator)
    for operand, text in zip(node.operands, node.texts, strict=True):
        # An operand of AND, OR and XOR is cast to Boolean (§3.7).
        cast = operand if isinstance(operand, Logic) else Call("BOOL", (operand,), operand.at)
        term = _cesql(cast, text, field, event)
        yield term
        if term.error is not None or term.passed is settled:
            return


def _names(node: Expression) -> Iterator[str]:
    if isinstance(node, Attribute | Exists):
        yield node.name
    for part in inside(node):
        yield from _names(part)
