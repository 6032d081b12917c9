"""Which term of a CESQL expression decides about an event."""

from collections.abc import Iterator
from typing import Literal

from relume.cesql.parser import parse
from relume.cesql.program import Program
from relume.cesql.tree import Attribute, Call, Exists, Expression, Logic, inside
from relume.cesql.values import quoted
from relume.cloudevents.event import CloudEvent, canonical
from relume.eventing.verdict import Verdict

_JOINED: dict[str, Literal["and", "or", "xor"]] = {"AND": "and", "OR": "or", "XOR": "xor"}


def verdict(expression: str, field: str, event: CloudEvent) -> Verdict:
    """What the expression, written at `field`, says about the event; see `Verdict`."""
    return _Terms(field, event).verdict(parse(expression), expression.strip())


class _Terms:
    def __init__(self, field: str, event: CloudEvent) -> None:
        self._field = field
        self._event = event

    def verdict(self, node: Expression, text: str) -> Verdict:
        result = Program(node).evaluate(self._event.attributes)
        error = None if result.error is None else f"{result.error.kind}: {result.error.message}"
        if error is None and not isinstance(result.value, bool):
            error = f"{quoted(result.value)} is not a Boolean"
        return Verdict(
            dialect="cesql",
            field=self._field,
            asked=text,
            passed=error is None and result.value is True,
            had=self._had(node),
            clauses=tuple(self._evaluated(node)) if isinstance(node, Logic) else (),
            joined=_JOINED[node.operator] if isinstance(node, Logic) else "and",
            error=error,
        )

    def _evaluated(self, node: Logic) -> Iterator[Verdict]:
        """The operands up to the one that settles it (§3.4.2: the others are not evaluated)."""
        settled = {"AND": False, "OR": True}.get(node.operator)
        for operand, text in zip(node.operands, node.texts, strict=True):
            term = self.verdict(_as_boolean(operand), text)
            yield term
            if term.error is not None or term.passed is settled:
                return

    def _had(self, node: Expression) -> dict[str, str | None]:
        attributes = self._event.attributes
        return {
            name: canonical(attributes[name]) if name in attributes else None
            for name in dict.fromkeys(_names(node))
        }


def _as_boolean(operand: Expression) -> Expression:
    """An operand of AND, OR and XOR is cast to Boolean (§3.7)."""
    return operand if isinstance(operand, Logic) else Call("BOOL", (operand,), operand.at)


def _names(node: Expression) -> Iterator[str]:
    if isinstance(node, Attribute | Exists):
        yield node.name
    for part in inside(node):
        yield from _names(part)
