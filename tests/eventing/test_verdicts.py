"""Why a Trigger takes an event: the clauses, the facts, and the clause that decided."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relume.cloudevents.event import CloudEvent
from relume.config import (
    All,
    Any_,
    Cesql,
    Destination,
    Exact,
    Filter,
    Negation,
    Prefix,
    Suffix,
    Trigger,
)
from relume.eventing.filters import Verdict, explain, wanted_by

EVENT = CloudEvent.create(
    {"id": "1", "source": "/orders/eu", "type": "order.created", "count": 5, "empty": ""}
)


def trigger(*filters: Filter, legacy: dict[str, str] | None = None) -> Trigger:
    return Trigger("default", "t", "b", Destination(uri="http://x"), filters, legacy)


def explained(*filters: Filter, legacy: dict[str, str] | None = None) -> Verdict:
    return explain(trigger(*filters, legacy=legacy), EVENT)


def tree(verdict: Verdict) -> Iterator[Verdict]:
    yield verdict
    for clause in verdict.clauses:
        yield from tree(clause)


def test_a_clause_says_where_it_is_what_it_asks_and_what_the_event_has() -> None:
    verdict = explained(Exact({"type": "order.created"}), Prefix({"subject": "a/"}))
    assert (verdict.dialect, verdict.field, verdict.passed) == ("all", "spec.filters", False)
    exact, prefix = verdict.clauses
    assert exact == Verdict(
        "exact",
        "spec.filters[0].exact.type",
        "type is 'order.created'",
        True,
        {"type": "order.created"},
    )
    assert prefix == Verdict(
        "prefix",
        "spec.filters[1].prefix.subject",
        "subject begins with 'a/'",
        False,
        {"subject": None},
    )


@pytest.mark.parametrize(
    ("filter_", "field", "asked"),
    [
        (Exact({"id": "1"}), ".exact.id", "id is '1'"),
        (Exact({"id": "1", "type": "x"}), ".exact.type", "type is 'x'"),
        (Exact({"id": "1", "count": "5"}), ".exact", "all of these"),
        (Suffix({"source": "eu"}), ".suffix.source", "source ends with 'eu'"),
        (Negation(Exact({"id": "1"})), ".not.exact.id", "id is '1'"),
        (Negation(Negation(Prefix({"id": "2"}))), ".not.not.prefix.id", "id begins with '2'"),
        (All((Exact({"id": "1"}), Exact({"id": "2"}))), ".all[1].exact.id", "id is '2'"),
        (Any_((Exact({"id": "2"}), Exact({"id": "1"}))), ".any[1].exact.id", "id is '1'"),
        (Any_((Exact({"id": "2"}), Exact({"id": "3"}))), ".any", "one of these"),
        (Cesql("count = 5"), ".cesql", "count = 5"),
        (Cesql("id = '1' AND count > 5 AND id = '2'"), ".cesql", "count > 5"),
        (Cesql("id = '2' OR (id='1' AND NOT EXISTS x)"), ".cesql", "(id='1' AND NOT EXISTS x)"),
        (Cesql("id = '1' AND (id = '2' OR missing = 1)"), ".cesql", "missing = 1"),
        (Cesql("id = '2' OR id = '3'"), ".cesql", "id = '2' OR id = '3'"),
        (Cesql("id = '1' XOR count = 5"), ".cesql", "id = '1' XOR count = 5"),
        (Cesql("id = '1' XOR count = 6"), ".cesql", "id = '1' XOR count = 6"),
        (Cesql("id = '1' XOR 1 / 0 = 1"), ".cesql", "1 / 0 = 1"),
    ],
)
def test_the_clause_that_decided_is_the_smallest_one_that_settles_it(
    filter_: Filter, field: str, asked: str
) -> None:
    decisive = explained(filter_).decisive
    assert (decisive.field, decisive.asked) == (f"spec.filters[0]{field}", asked)


def test_terms_of_cesql_that_must_not_be_evaluated_are_not_in_the_tree() -> None:
    (verdict,) = explained(Cesql("id = '2' AND missing = 1")).clauses
    assert [term.asked for term in verdict.clauses] == ["id = '2'"]
    assert verdict.error is None
    assert verdict.had == {"id": "1", "missing": None}


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("missing = 1", "missingAttribute: the event has no missing"),
        ("type > 1", "cast: 'order.created' is not an Integer"),
        ("1 / 0 = 1", "math: 1 / 0"),
        ("NOPE(1)", "missingFunction: there is no function NOPE of 1 argument"),
        ("count", "5 is not a Boolean"),
        ("CONCAT(type, '!')", "'order.created!' is not a Boolean"),
    ],
)
def test_an_expression_without_a_boolean_value_says_why(expression: str, error: str) -> None:
    (verdict,) = explained(Cesql(expression)).clauses
    assert (verdict.passed, verdict.error) == (False, error)


def test_the_operands_of_and_are_read_as_booleans() -> None:
    (verdict,) = explained(Cesql("count AND TRUE")).clauses
    assert verdict.passed
    assert [(term.asked, term.passed, term.error) for term in verdict.clauses] == [
        ("count", True, None),
        ("TRUE", True, None),
    ]
    assert wanted_by(trigger(Cesql("count AND TRUE")))(EVENT)


def test_legacy_attributes_are_explained_where_they_are_written() -> None:
    verdict = explained(legacy={"type": "", "empty": ""})
    first, second = verdict.clauses
    assert (first.field, first.asked) == (
        "spec.filter.attributes.type",
        "type is there and not empty",
    )
    assert (first.passed, second.passed) == (True, False)
    assert verdict.decisive == second


def test_filters_override_the_legacy_filter_in_the_explanation_too() -> None:
    assert explained(Exact({"id": "1"}), legacy={"id": "2"}).passed
    assert explained(legacy={"id": "2"}).field == "spec.filter.attributes.id"


def test_a_trigger_without_a_filter_takes_every_event() -> None:
    verdict = explained()
    assert (verdict.dialect, verdict.asked, verdict.passed) == ("none", "every event", True)
    assert verdict.decisive == verdict


def test_the_tree_is_json() -> None:
    verdict = explained(Negation(Cesql("id = '2' OR missing = 1")))
    written = json.loads(json.dumps(verdict.to_json()))
    assert written["clauses"][0]["clauses"][0]["clauses"][1]["had"] == {"missing": None}


NAMES = st.sampled_from(["id", "type", "count", "empty", "missing"])
TEXTS = st.sampled_from(["1", "5", "order.created", "order", "", "created"])
ATTRIBUTES = st.dictionaries(NAMES, TEXTS, min_size=1, max_size=2)
TERMS = ["id = '1'", "count > 5", "missing = 1", "count", "1 / 0 = 1", "EXISTS empty", "'x'"]
REST = st.tuples(st.sampled_from([" AND ", " OR ", " XOR "]), st.sampled_from(TERMS)).map("".join)
EXPRESSIONS = st.builds(
    lambda first, rest: first + "".join(rest), st.sampled_from(TERMS), st.lists(REST, max_size=3)
)
LEAVES = st.one_of(
    ATTRIBUTES.map(Exact),
    ATTRIBUTES.map(Prefix),
    ATTRIBUTES.map(Suffix),
    EXPRESSIONS.map(Cesql),
)
FILTERS: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: (
        inner.map(Negation)
        | st.lists(inner, min_size=1, max_size=3).map(lambda found: All(tuple(found)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda found: Any_(tuple(found)))
    ),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(FILTERS, max_size=3), st.none() | ATTRIBUTES)
def test_the_explanation_and_the_filter_say_the_same(
    filters: list[Filter], legacy: dict[str, str] | None
) -> None:
    both = trigger(*filters, legacy=legacy)
    verdict = explain(both, EVENT)
    assert verdict.passed is wanted_by(both)(EVENT)
    assert verdict.decisive in list(tree(verdict))
    for clause in tree(verdict):
        if clause.clauses and clause.dialect != "not":
            assert clause.passed is follows(clause)
            assert (clause.error is None) is all(each.error is None for each in terms(clause))


def terms(clause: Verdict) -> tuple[Verdict, ...]:
    """The terms whose error is the error of the clause."""
    return clause.clauses if clause.dialect == "cesql" else ()


def follows(clause: Verdict) -> bool:
    """Whether a clause passes, from those inside it."""
    passed = [each.passed for each in clause.clauses]
    if any(each.error is not None for each in terms(clause)):
        return False
    return {"and": all(passed), "or": any(passed), "xor": sum(passed) % 2 == 1}[clause.joined]
