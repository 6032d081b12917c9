"""Filters that mean something else than they seem to."""

from collections.abc import Iterator

from relume.cesql.parser import ParseError, parse
from relume.cesql.tree import Expression, Logic, inside
from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.doctor.graph import Numbered, named
from relume.cluster.findings import Finding, at
from relume.config.nodes import Node, Table


def judge_filters(documents: Numbered) -> Iterator[tuple[int, Finding]]:
    """Every CESQL expression that mixes AND, OR and XOR so that brackets matter."""
    for number, trigger in named(documents, "Trigger").values():
        for node in _expressions(entries(child(trigger, "spec", "filters"))):
            try:
                expression = parse(content(node))
            except ParseError:  # admission has found it too
                continue
            for logic in _ungrouped(expression):
                message = f"it means {_grouped(logic)}"
                yield number, at(node, "groups-from-right", message)


def _expressions(filters: tuple[Node, ...]) -> Iterator[Node]:
    for one in filters:
        for name, value in fields(one).items():
            if name == "cesql":
                yield value
            elif name in ("all", "any"):
                yield from _expressions(tuple(entries(value)))
            elif name == "not" and isinstance(value, Table):
                yield from _expressions((value,))


def _ungrouped(node: Expression) -> Iterator[Logic]:
    """Chains whose rest is another chain without brackets.

    AND after OR or XOR is left out: there the usual precedence groups from the right, too.
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
