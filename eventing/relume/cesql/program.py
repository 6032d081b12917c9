"""CESQL 1.0 (cloudevents/spec `cesql/spec.md`): compile an expression once, evaluate it often.

Evaluation stops at the first error (§4.1, fail fast mode). The value is then what the operator or
function that failed is worth, where it is the whole expression, else the zero value of the type
that the expression has; that type is Boolean where it is not known (§3.2).

Where the specification is silent: a result that does not fit 32 bits is a math error and worth 0,
as for ABS. Where it disagrees with its own test kit: NOT casts an Integer (§3.7), but the kit says
that `NOT 10` is a cast error; here 0 and 1 are cast, and every other Integer is an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import add, eq, ge, gt, le, lt, mul, ne, sub

from relume.cesql.parser import parse
from relume.cesql.tree import (
    Attribute,
    Calculate,
    Call,
    Compare,
    Exists,
    Expression,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Not,
    Value,
)
from relume.cesql.values import (
    CASTS,
    LEAST,
    MOST,
    ZERO,
    EvaluationError,
    EvaluationFailure,
    find,
    like,
    to_boolean,
    to_string,
)

Attributes = Mapping[str, Value]
Evaluate = Callable[[Attributes], Value]


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
        except EvaluationFailure as failure:
            whole = failure.at == self._root.at
            value = failure.value if whole else ZERO[type_of(self._root) or bool]
            return Result(value, EvaluationError(failure.kind, failure.message, failure.at))

    def matches(self, attributes: Mapping[str, Value]) -> bool:
        """As a filter (§1.2): true only where the value is the Boolean true, without an error."""
        try:
            return self._run(attributes) is True
        except EvaluationFailure:
            return False


def compile(text: str) -> Program:
    """Raises `relume.cesql.parser.ParseError` for text that is no CESQL expression."""
    return Program(parse(text))


def type_of(node: Expression) -> type | None:
    """The type that `node` always has; None where the event decides."""
    match node:
        case Literal(value):
            return value.__class__
        case Attribute():
            return None
        case Negate() | Calculate():
            return int
        case Call(name, arguments):
            function = find(name, len(arguments))
            return bool if function is None else function.returns
        case _:
            return bool


def step_of(node: Expression) -> Evaluate:
    """A function that computes `node` for an event's attributes, and raises EvaluationFailure."""
    match node:
        case Literal(value):
            return lambda _: value
        case Attribute(name):
            return _attribute(name, node.at)
        case Exists(name):
            return lambda attributes: name in attributes
        case Not(operand):
            return _not(operand, node.at)
        case Negate(operand):
            return _calculate("-", Literal(0, node.at), operand, node.at)
        case Call():
            return _call(node)
        case Like(operand, pattern):
            return _like(operand, pattern)
        case In(operand, choices):
            return _in(operand, choices)
        case Compare(sign, left, right):
            return _order(sign, left, right) if sign in _ORDERS else _equal(sign, left, right)
        case Calculate(sign, left, right):
            return _calculate(sign, left, right, node.at)
        case Logic():
            return _logic(node)


def _cast(node: Expression, wanted: type | None) -> Evaluate:
    """`node` as a value of the type; an error of the cast is at the node."""
    step = step_of(node)
    if wanted is None or type_of(node) is wanted:
        return step
    cast, at = CASTS[wanted], node.at

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        if value.__class__ is wanted:
            return value
        return _placed(cast, at, value)

    return run


def _placed(function: Callable[..., Value], at: int, *arguments: Value) -> Value:
    """Call a function that knows no places; its failure is at `at`."""
    try:
        return function(*arguments)
    except EvaluationFailure as failure:
        failure.at = at
        raise


def _attribute(name: str, at: int) -> Evaluate:
    def run(attributes: Attributes) -> Value:
        value = attributes.get(name)
        if value is None:
            raise EvaluationFailure("missingAttribute", f"the event has no {name}", False, at)
        return value

    return run


def _not(operand: Expression, at: int) -> Evaluate:
    step, cast_at = step_of(operand), operand.at

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        if value.__class__ is int and value not in (0, 1):
            raise EvaluationFailure("cast", f"{value} is not a Boolean", True, at)
        return not _placed(to_boolean, cast_at, value)

    return run


def _call(node: Call) -> Evaluate:
    at, function = node.at, find(node.name, len(node.arguments))
    if function is None:
        count = len(node.arguments)
        message = f"there is no function {node.name} of {count} argument{'s' * (count != 1)}"

        def missing(_: Attributes) -> Value:
            raise EvaluationFailure("missingFunction", message, False, at)

        return missing
    run = function.run
    types = function.parameters(len(node.arguments)) or ()
    steps = [_cast(each, wanted) for each, wanted in zip(node.arguments, types, strict=True)]

    def call(attributes: Attributes) -> Value:
        return _placed(run, at, *[step(attributes) for step in steps])

    return call


def _like(operand: Expression, pattern: str) -> Evaluate:
    step, matches = step_of(operand), like(pattern)

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        return matches(value if isinstance(value, str) else to_string(value))

    return run


def _in(operand: Expression, choices: tuple[Expression, ...]) -> Evaluate:
    """The choices are cast to the type of the operand, until one is equal (§3.4.5)."""
    step = step_of(operand)
    others = [(step_of(choice), choice.at) for choice in choices]

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        cast = CASTS[value.__class__]
        return any(_placed(cast, at, other(attributes)) == value for other, at in others)

    return run


def _equal(sign: str, left: Expression, right: Expression) -> Evaluate:
    """The left operand is cast to the type of the right one (§3.7, ambiguous operators)."""
    compare = eq if sign == "=" else ne
    second, at = step_of(right), left.at
    if (type_ := type_of(right)) is not None:
        first = _cast(left, type_)
        return lambda attributes: compare(first(attributes), second(attributes))
    step = step_of(left)

    def run(attributes: Attributes) -> Value:
        value, other = step(attributes), second(attributes)
        if value.__class__ is not other.__class__:
            value = _placed(CASTS[other.__class__], at, value)
        return bool(compare(value, other))

    return run


_ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}


def _order(sign: str, left: Expression, right: Expression) -> Evaluate:
    compare, first, second = _ORDERS[sign], _cast(left, int), _cast(right, int)
    return lambda attributes: compare(first(attributes), second(attributes))


def _calculate(sign: str, left: Expression, right: Expression, at: int) -> Evaluate:
    compute, first, second = _ARITHMETIC[sign], _cast(left, int), _cast(right, int)

    def run(attributes: Attributes) -> Value:
        value = _placed(compute, at, first(attributes), second(attributes))
        if not LEAST <= int(value) <= MOST:
            raise EvaluationFailure("math", f"{value} does not fit an Integer", 0, at)
        return value

    return run


def _divide(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationFailure("math", f"{x} / 0", 0)
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _remainder(x: int, y: int) -> int:
    if y == 0:
        raise EvaluationFailure("math", f"{x} % 0", 0)
    return abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y))


_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": _divide,
    "%": _remainder,
}


def _logic(node: Logic) -> Evaluate:
    steps = tuple(_cast(operand, bool) for operand in node.operands)
    if node.operator == "XOR":
        return lambda attributes: sum(bool(step(attributes)) for step in steps) % 2 == 1
    decisive = node.operator == "OR"

    def run(attributes: Attributes) -> Value:
        for step in steps:
            if step(attributes) is decisive:
                return decisive
        return not decisive

    return run
