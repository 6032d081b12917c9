"""What CESQL computes with: its types and casts, its errors, LIKE, and its functions (spec §3).

A String is a str, an Integer an int that fits 32 bits, a Boolean a bool. In Python a bool is also
an int, so the types are compared by class.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from relume.cesql.tree import Value

ErrorKind = Literal[
    "parse", "math", "cast", "missingFunction", "functionEvaluation", "missingAttribute", "generic"
]
Test = Callable[[str], bool]

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


class EvaluationFailure(Exception):
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
    """Base 10 with an optional sign. Raises EvaluationFailure for any other string."""
    if isinstance(value, str):
        found = _INTEGER.fullmatch(value)
        if found is None or not LEAST <= (number := int(found[1] + found[2])) <= MOST:
            raise _no_cast(value, int)
        return number
    return int(value)


def to_boolean(value: Value) -> bool:
    """`true` and `false` in any case; an Integer other than 0 is true. Raises EvaluationFailure."""
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


def _no_cast(value: Value, wanted: type) -> EvaluationFailure:
    return EvaluationFailure("cast", f"{quoted(value)} is not {_TYPES[wanted]}", ZERO[wanted])


_PIECE = re.compile(r"\\([%_])|(%)|(_)|([^%_\\]+|\\)")
_ONE = None  # `_` in a segment


def like(pattern: str) -> Test:
    r"""The test of a pattern, in which `\%` and `\_` are the signs themselves.

    The time of a test is linear in the text, and at most its length times that of the pattern:
    what stands between two `%` is taken where it occurs first, and is never looked for again.
    """
    segments = _segments(pattern)
    if len(segments) <= 2 and not any(_ONE in segment for segment in segments):
        return _of_text(["".join(filter(None, segment)) for segment in segments])
    first, *others = map(_expression, segments)
    # An atomic group gives nothing back once it has matched: no backtracking into it.
    middle = "".join(f"(?>.*?{segment})" for segment in others[:-1])
    last = f".*{others[-1]}" if others else ""
    matches = re.compile(first + middle + last, re.DOTALL).fullmatch
    return lambda text: matches(text) is not None


def _segments(pattern: str) -> list[list[str | None]]:
    """What stands before, between and after the `%` signs."""
    segments: list[list[str | None]] = [[]]
    for escaped, anything, one, literal in _PIECE.findall(pattern):
        if anything:
            segments.append([])
        else:
            segments[-1].append(_ONE if one else escaped or literal)
    return segments


def _expression(segment: list[str | None]) -> str:
    return "".join("." if piece is _ONE else re.escape(piece) for piece in segment)


def _of_text(segments: list[str]) -> Test:
    """The test of text with at most one `%`, without a regular expression."""
    if len(segments) == 1:
        return segments[0].__eq__
    first, last = segments
    if not last:
        return lambda text: text.startswith(first)
    if not first:
        return lambda text: text.endswith(last)
    least = len(first) + len(last)
    return lambda text: len(text) >= least and text.startswith(first) and text.endswith(last)


@dataclass(frozen=True, slots=True)
class SqlFunction:
    """One function; None among `takes` is any type, `more` the type of all further arguments."""

    returns: type
    takes: tuple[type | None, ...]
    run: Callable[..., Value]
    more: type | None = None

    def parameters(self, count: int) -> tuple[type | None, ...] | None:
        """The types of `count` arguments, or None where it does not take so many."""
        further = count - len(self.takes)
        if further < 0 or (further and self.more is None):
            return None
        return (*self.takes, *(self.more,) * further)


def find(name: str, count: int) -> SqlFunction | None:
    """The function that takes `count` arguments; `name` is in upper case."""
    found = (
        function for function in FUNCTIONS.get(name, ()) if function.parameters(count) is not None
    )
    return next(found, None)


# Unicode's White_Space; Python's own strip() takes four control characters for it, too.
_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def _absolute(x: int) -> int:
    if x == LEAST:
        raise EvaluationFailure("math", f"ABS({LEAST}) does not fit an Integer", MOST)
    return abs(x)


def _left(x: str, count: int) -> str:
    if count < 0:
        raise EvaluationFailure("functionEvaluation", f"LEFT of {count} characters", x)
    return x[:count]


def _right(x: str, count: int) -> str:
    if count < 0:
        raise EvaluationFailure("functionEvaluation", f"RIGHT of {count} characters", x)
    return x[max(0, len(x) - count) :]


def _substring(x: str, position: int, length: int = MOST) -> str:
    """Positions begin at 1, negative ones count from the end; 0 is behind it."""
    if abs(position) > len(x):
        message = f"SUBSTRING from {position} of {len(x)} characters"
        raise EvaluationFailure("functionEvaluation", message, "")
    if length < 0:
        raise EvaluationFailure("functionEvaluation", f"SUBSTRING of length {length}", "")
    start = position - 1 if position > 0 else len(x) + position
    return x[start : start + length]


FUNCTIONS: Mapping[str, tuple[SqlFunction, ...]] = {
    "INT": (SqlFunction(int, (None,), to_integer),),
    "BOOL": (SqlFunction(bool, (None,), to_boolean),),
    "STRING": (SqlFunction(str, (None,), to_string),),
    "ABS": (SqlFunction(int, (int,), _absolute),),
    "LENGTH": (SqlFunction(int, (str,), len),),
    "CONCAT": (SqlFunction(str, (), lambda *texts: "".join(texts), more=str),),
    "CONCAT_WS": (SqlFunction(str, (str,), lambda by, *texts: by.join(texts), more=str),),
    "LOWER": (SqlFunction(str, (str,), str.lower),),
    "UPPER": (SqlFunction(str, (str,), str.upper),),
    "TRIM": (SqlFunction(str, (str,), lambda x: x.strip(_WHITE_SPACE)),),
    "LEFT": (SqlFunction(str, (str, int), _left),),
    "RIGHT": (SqlFunction(str, (str, int), _right),),
    "SUBSTRING": (
        SqlFunction(str, (str, int), _substring),
        SqlFunction(str, (str, int, int), _substring),
    ),
}
