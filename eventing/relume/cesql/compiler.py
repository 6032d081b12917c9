"""Each node of a CESQL expression as a function of the event's attributes (spec §3).

Where the specification is silent: a result that does not fit 32 bits is a math error and worth 0,
as for ABS. Where it disagrees with its own test kit: NOT casts an Integer (§3.7), the kit says that
`NOT 10` is a cast error; here 0 and 1 are cast, and every other Integer is an error.
"""

from collections.abc import Callable, Mapping
from operator import add, eq, ge, gt, le, lt, mul, ne, sub

from relume.cesql.functions import find
from relume.cesql.like import like
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
from relume.cesql.values import CASTS, LEAST, MOST, Failure, to_boolean, to_string

Attributes = Mapping[str, Value]
Step = Callable[[Attributes], Value]


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


def step_of(node: Expression) -> Step:
    """The value of `node` for an event's attributes; the function raises Failure at an error."""
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


def _cast(node: Expression, wanted: type | None) -> Step:
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
    except Failure as failure:
        failure.at = at
        raise


def _attribute(name: str, at: int) -> Step:
    def run(attributes: Attributes) -> Value:
        value = attributes.get(name)
        if value is None:
            raise Failure("missingAttribute", f"the event has no {name}", False, at)
        return value

    return run


def _not(operand: Expression, at: int) -> Step:
    step, cast_at = step_of(operand), operand.at

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        if value.__class__ is int and value not in (0, 1):
            raise Failure("cast", f"{value} is not a Boolean", True, at)
        return not _placed(to_boolean, cast_at, value)

    return run


def _call(node: Call) -> Step:
    at, function = node.at, find(node.name, len(node.arguments))
    if function is None:
        count = len(node.arguments)
        message = f"there is no function {node.name} of {count} argument{'s' * (count != 1)}"

        def missing(_: Attributes) -> Value:
            raise Failure("missingFunction", message, False, at)

        return missing
    run = function.run
    types = function.parameters(len(node.arguments)) or ()
    steps = [_cast(each, wanted) for each, wanted in zip(node.arguments, types, strict=True)]

    def call(attributes: Attributes) -> Value:
        return _placed(run, at, *[step(attributes) for step in steps])

    return call


def _like(operand: Expression, pattern: str) -> Step:
    step, matches = step_of(operand), like(pattern)

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        return matches(value if isinstance(value, str) else to_string(value))

    return run


def _in(operand: Expression, choices: tuple[Expression, ...]) -> Step:
    """The choices are cast to the type of the operand, until one is equal (§3.4.5)."""
    step = step_of(operand)
    others = [(step_of(choice), choice.at) for choice in choices]

    def run(attributes: Attributes) -> Value:
        value = step(attributes)
        cast = CASTS[value.__class__]
        return any(_placed(cast, at, other(attributes)) == value for other, at in others)

    return run


def _equal(sign: str, left: Expression, right: Expression) -> Step:
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


def _order(sign: str, left: Expression, right: Expression) -> Step:
    compare, first, second = _ORDERS[sign], _cast(left, int), _cast(right, int)
    return lambda attributes: compare(first(attributes), second(attributes))


def _calculate(sign: str, left: Expression, right: Expression, at: int) -> Step:
    compute, first, second = _ARITHMETIC[sign], _cast(left, int), _cast(right, int)

    def run(attributes: Attributes) -> Value:
        value = _placed(compute, at, first(attributes), second(attributes))
        if not LEAST <= int(value) <= MOST:
            raise Failure("math", f"{value} does not fit an Integer", 0, at)
        return value

    return run


def _divide(x: int, y: int) -> int:
    if y == 0:
        raise Failure("math", f"{x} / 0", 0)
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def _remainder(x: int, y: int) -> int:
    if y == 0:
        raise Failure("math", f"{x} % 0", 0)
    return abs(x) % abs(y) if x >= 0 else -(abs(x) % abs(y))


_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": _divide,
    "%": _remainder,
}


def _logic(node: Logic) -> Step:
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
