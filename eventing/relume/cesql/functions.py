"""The functions that every CESQL engine has (spec §3.5), found by name and number of arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relume.cesql.tree import Value
from relume.cesql.values import (
    LEAST,
    MOST,
    Failure,
    to_boolean,
    to_integer,
    to_string,
)


@dataclass(frozen=True, slots=True)
class Function:
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


def find(name: str, count: int) -> Function | None:
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
        raise Failure("math", f"ABS({LEAST}) does not fit an Integer", MOST)
    return abs(x)


def _left(x: str, count: int) -> str:
    if count < 0:
        raise Failure("functionEvaluation", f"LEFT of {count} characters", x)
    return x[:count]


def _right(x: str, count: int) -> str:
    if count < 0:
        raise Failure("functionEvaluation", f"RIGHT of {count} characters", x)
    return x[max(0, len(x) - count) :]


def _substring(x: str, position: int, length: int = MOST) -> str:
    """Positions begin at 1, negative ones count from the end; 0 is behind it."""
    if abs(position) > len(x):
        message = f"SUBSTRING from {position} of {len(x)} characters"
        raise Failure("functionEvaluation", message, "")
    if length < 0:
        raise Failure("functionEvaluation", f"SUBSTRING of length {length}", "")
    start = position - 1 if position > 0 else len(x) + position
    return x[start : start + length]


FUNCTIONS: Mapping[str, tuple[Function, ...]] = {
    "INT": (Function(int, (None,), to_integer),),
    "BOOL": (Function(bool, (None,), to_boolean),),
    "STRING": (Function(str, (None,), to_string),),
    "ABS": (Function(int, (int,), _absolute),),
    "LENGTH": (Function(int, (str,), len),),
    "CONCAT": (Function(str, (), lambda *texts: "".join(texts), more=str),),
    "CONCAT_WS": (Function(str, (str,), lambda by, *texts: by.join(texts), more=str),),
    "LOWER": (Function(str, (str,), str.lower),),
    "UPPER": (Function(str, (str,), str.upper),),
    "TRIM": (Function(str, (str,), lambda x: x.strip(_WHITE_SPACE)),),
    "LEFT": (Function(str, (str, int), _left),),
    "RIGHT": (Function(str, (str, int), _right),),
    "SUBSTRING": (
        Function(str, (str, int), _substring),
        Function(str, (str, int, int), _substring),
    ),
}
