"""CESQL 1.0 (cloudevents/spec `cesql/spec.md`): compile an expression once, evaluate it often.

Evaluation stops at the first error (§4.1, fail fast mode). The value is then what the operator or
function that failed is worth, where it is the whole expression, else the zero value of the type
that the expression has; that type is Boolean where it is not known (§3.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from relume.cesql.compiler import step_of, type_of
from relume.cesql.parser import parse
from relume.cesql.tree import Expression, Value
from relume.cesql.values import ZERO, EvaluationError, Failure


@dataclass(frozen=True, slots=True)
class Result:
    """The value of an expression for one event, and the error if there was one."""

    value: Value
    error: EvaluationError | None = None


class Program:
    """A compiled expression; evaluating it never raises and changes nothing."""

    def __init__(self, expression: Expression) -> None:
        self._root = expression
        self._run = step_of(expression)

    def evaluate(self, attributes: Mapping[str, Value]) -> Result:
        """The value and the first error, for an event with these context attributes."""
        try:
            return Result(self._run(attributes))
        except Failure as failure:
            whole = failure.at == self._root.at
            value = failure.value if whole else ZERO[type_of(self._root) or bool]
            return Result(value, EvaluationError(failure.kind, failure.message, failure.at))

    def matches(self, attributes: Mapping[str, Value]) -> bool:
        """As a filter (§1.2): true only where the value is the Boolean true, without an error."""
        try:
            return self._run(attributes) is True
        except Failure:
            return False


def compile(text: str) -> Program:
    """Raises `relume.cesql.parser.ParseError` for text that is no CESQL expression."""
    return Program(parse(text))
