"""Filters of Triggers that take replies of their own subscriber, or mean something unexpected.

A Broker feeds a reply to every Trigger. Of a reply of Relume's runtime the type and the source are
known, and that some attributes are copied from the request. Of a function's reply nothing is known.
"""

from collections.abc import Iterator, Sequence

from relume.base.vocabulary import COPIED_ATTRIBUTES, ERROR, RESPONSE
from relume.cesql.parser import ParseError, parse
from relume.cesql.tree import Expression, Logic, inside
from relume.cloudevents.event import SPECVERSION, CloudEvent
from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.doctor.graph import NumberedDocuments, answering, named
from relume.cluster.findings import Finding, at
from relume.config import All, Any_, Destination, Filter, Negation, Trigger
from relume.config.eventing import COMPARISONS
from relume.config.nodes import Node, Table
from relume.eventing.filters import wanted_by

# Attributes of a reply whose values depend on the request or on the time.
_UNKNOWN = frozenset({*COPIED_ATTRIBUTES, "id", "time"})
_ALWAYS, _NEVER = All(()), Any_(())


def judge_filters(documents: NumberedDocuments) -> Iterator[tuple[int, Finding]]:
    """Triggers that take replies of what they send to, and CESQL in which brackets matter."""
    for number, trigger in named(documents, "Trigger").values():
        spec = child(trigger, "spec")
        assert spec is not None, "a Trigger without a spec is refused"
        for finding in (*_loop(trigger, spec), *_groups(entries(fields(spec).get("filters")))):
            yield number, finding


def _loop(trigger: Table, spec: Node) -> Iterator[Finding]:
    """That a Trigger takes a reply of the service that it sends to."""
    asked = answering(trigger)
    if asked is not None and asked[0] == "Service":
        yield from _loop_of_any(asked[2], spec)
    if asked is None or asked[0] != "InferenceService":
        return
    source = f"/namespaces/{asked[1]}/inferenceservices/{asked[2]}"
    for kind in (RESPONSE, ERROR):
        reply = CloudEvent({"specversion": SPECVERSION, "type": kind, "source": source})
        if _may_pass(spec, reply):
            name = "filters" if "filters" in fields(spec) else "filter"
            where = fields(spec).get(name, spec)
            message = f"replies of type {kind} come back to {asked[2]}"
            fix = "Filter on the type of the request: filters: [{exact: {type: …}}]."
            yield at(where, "reply-loop", message, fix, field=f"{spec.path}.{name}")
            return


def _loop_of_any(name: str, spec: Node) -> Iterator[Finding]:
    """That a Trigger without a filter sends to a function, whose replies have any type."""
    attributes = fields(fields(spec).get("filter")).get("attributes")
    if entries(fields(spec).get("filters")) or fields(attributes):
        return
    message = f"replies of {name} come back to it, whatever their type"
    fix = "Filter on the type of the request: filters: [{exact: {type: …}}]."
    yield at(spec, "reply-loop", message, fix, field=f"{spec.path}.filters")


def _may_pass(spec: Node, reply: CloudEvent) -> bool:
    """Whether a reply may pass the filters, whatever its unknown attributes turn out to be.

    CESQL is not judged, because it may combine what is known with what is not.
    """
    filters = entries(fields(spec).get("filters"))
    if any(True for _ in _expressions(filters)):
        return False
    legacy = fields(fields(fields(spec).get("filter")).get("attributes"))
    known = {name: content(node) for name, node in legacy.items() if name not in _UNKNOWN}
    lenient = tuple(_lenient(one) for one in filters)
    trigger = Trigger("", "", "", Destination(), filters=lenient, legacy_attributes=known)
    return wanted_by(trigger)(reply)


def _lenient(node: Node, *, negated: bool = False) -> Filter:
    """The filter, in which every test of an unknown attribute turns out so that the event passes.

    Inside an odd number of `not` that means that the test itself fails.
    """
    for dialect, value in fields(node).items():
        if dialect in COMPARISONS:
            tests = {name: content(wanted) for name, wanted in fields(value).items()}
            known = {name: wanted for name, wanted in tests.items() if name not in _UNKNOWN}
            return _NEVER if negated and known != tests else COMPARISONS[dialect](known)
        if dialect in ("all", "any"):
            inner = tuple(_lenient(one, negated=negated) for one in entries(value))
            return All(inner) if dialect == "all" else Any_(inner)
        if dialect == "not":
            return Negation(_lenient(value, negated=not negated))
    return _NEVER if negated else _ALWAYS


def _groups(filters: Sequence[Node]) -> Iterator[Finding]:
    """Every CESQL expression that mixes AND, OR and XOR so that brackets matter."""
    for node in _expressions(filters):
        try:
            expression = parse(content(node))
        except ParseError:  # admission has found it too
            continue
        for logic in _ungrouped(expression):
            yield at(node, "groups-from-right", f"it means {_grouped(logic)}")


def _expressions(filters: Sequence[Node]) -> Iterator[Node]:
    """Every CESQL expression in these filters, at any depth."""
    for one in filters:
        for name, value in fields(one).items():
            if name == "cesql":
                yield value
            elif name in ("all", "any"):
                yield from _expressions(entries(value))
            elif name == "not" and isinstance(value, Table):
                yield from _expressions((value,))


def _ungrouped(node: Expression) -> Iterator[Logic]:
    """Chains whose rest is another chain without brackets.

    AND after OR or XOR is left out: the usual precedence groups from the right there, too.
    """
    if isinstance(node, Logic):
        # In brackets, the rest begins with one more than its own first part does.
        match node.operands[-1]:
            case Logic("OR" | "XOR") as rest if node.texts[-1].startswith(rest.texts[0]):
                yield node
    for operand in inside(node):
        yield from _ungrouped(operand)


def _grouped(node: Logic) -> str:
    return f" {node.operator} ".join((*node.texts[:-1], f"({node.texts[-1]})"))
