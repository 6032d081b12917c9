"""The types of CESQL, the casts between them, and what an evaluation fails with (spec §3.1, §3.7).

A String is a str, an Integer an int that fits 32 bits, a Boolean a bool. Python's bool is an int,
so types are told apart by class.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from relume.cesql.tree import Value

ErrorKind = Literal[
    "parse",
    "math",
    "cast",
    "missingFunction",
    "functionEvaluation",
    "missingAttribute",
    "generic",
]

LEAST, MOST = -(2**31), 2**31 - 1
_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,10})")
_TYPES: Mapping[type, str] = {str: "a String", int: "an Integer", bool: "a Boolean"}
ZERO: Mapping[type, Value] = {str: "", int: 0, bool: False}
_LONGEST_QUOTE = 60  # characters


@dataclass(frozen=True, slots=True)
class EvaluationError:
    """Why an expression has no proper value for an event.

    `kind` is the specification's word (§3.3), `position` the place in the expression, from 0.
    """

    kind: ErrorKind
    message: str
    position: int


class Failure(Exception):
    """Ends an evaluation at its first error (§4.1, fail fast mode).

    `value` is what the operator or function at `at` is worth nevertheless. What knows no places,
    a cast or a function, leaves `at` to its caller.
    """

    def __init__(self, kind: ErrorKind, message: str, value: Value, at: int = -1) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.value = value
        self.at = at


def to_string(value: Value) -> str:
    """Always possible: `true`, `-5`."""
    if value.__class__ is bool:
        return "true" if value else "false"
    return str(value)


def to_integer(value: Value) -> int:
    """Base 10 with an optional sign. Raises Failure for a string that is no 32-bit integer."""
    if isinstance(value, str):
        found = _INTEGER.fullmatch(value)
        if found is None or not LEAST <= (number := int(found[1] + found[2])) <= MOST:
            raise _no_cast(value, int)
        return number
    return int(value)


def to_boolean(value: Value) -> bool:
    """`true` and `false` in any case; an Integer other than 0 is true. Raises Failure."""
    if isinstance(value, str):
        lower = value.lower()
        if lower not in ("true", "false"):
            raise _no_cast(value, bool)
        return lower == "true"
    return bool(value)


CASTS: Mapping[type, Callable[[Value], Value]] = {str: to_string, int: to_integer, bool: to_boolean}


def quoted(value: Value) -> str:
    """A value as a message shows it."""
    text = f"'{value}'" if isinstance(value, str) else to_string(value)
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def _no_cast(value: Value, wanted: type) -> Failure:
    return Failure("cast", f"{quoted(value)} is not {_TYPES[wanted]}", ZERO[wanted])
