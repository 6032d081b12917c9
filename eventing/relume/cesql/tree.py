"""The syntax tree of a CESQL expression (CloudEvents SQL 1.0 §2).

`at` is the place of a node in the text, counted from 0, at the token that names it: the operator,
the function, the attribute, the literal. No two nodes of one tree share a place.
"""

from dataclasses import dataclass
from typing import Literal as OneOf

Value = str | int | bool
Comparison = OneOf["=", "!=", "<", "<=", ">", ">="]
Arithmetic = OneOf["*", "/", "%", "+", "-"]
Connective = OneOf["AND", "OR", "XOR"]


@dataclass(frozen=True, slots=True)
class Literal:
    """A string without its quotes, a 32-bit integer, or a boolean."""

    value: Value
    at: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of a context attribute; `name` is in lower case."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Exists:
    """Whether the event has the attribute."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Not:
    """The other truth value; `x NOT LIKE y` and `x NOT IN y` are made of it, too."""

    operand: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Negate:
    """The number with the other sign."""

    operand: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function by its name in upper case."""

    name: str
    arguments: "tuple[Expression, ...]"
    at: int


@dataclass(frozen=True, slots=True)
class Like:
    """Whether the operand as a string has the form of `pattern` (§3.4.3)."""

    operand: "Expression"
    pattern: str
    at: int


@dataclass(frozen=True, slots=True)
class In:
    """Whether the operand equals one of at least one choice (§3.4.5)."""

    operand: "Expression"
    choices: "tuple[Expression, ...]"
    at: int


@dataclass(frozen=True, slots=True)
class Compare:
    """Two values compared; `<>` is written `!=` here."""

    operator: Comparison
    left: "Expression"
    right: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Calculate:
    """Arithmetic on 32-bit integers."""

    operator: Arithmetic
    left: "Expression"
    right: "Expression"
    at: int


@dataclass(frozen=True, slots=True)
class Logic:
    """A chain of one logic operator over at least two operands, and how each is written."""

    operator: Connective
    operands: "tuple[Expression, ...]"
    texts: tuple[str, ...]
    at: int


Expression = (
    Literal | Attribute | Exists | Not | Negate | Call | Like | In | Compare | Calculate | Logic
)


def inside(node: Expression) -> tuple[Expression, ...]:
    """The expressions that `node` is made of, in the order of the text."""
    match node:
        case Literal() | Attribute() | Exists():
            return ()
        case Not(operand) | Negate(operand) | Like(operand):
            return (operand,)
        case Call(_, operands) | Logic(_, operands):
            return operands
        case In(operand, choices):
            return (operand, *choices)
        case Compare(_, left, right) | Calculate(_, left, right):
            return (left, right)
