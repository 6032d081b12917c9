"""Kubernetes' CEL variables and functions for DRA, over cel-cpp.

A quantity is the list [0, whole, nanos], a version [1, major, minor, patch, …]: cel-cpp picks
overloads by the kind of a value, and lists are the kind that no selector uses by itself.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from relume.base.errors import RelumeError
from relume.cluster.claims import quantity
from relume.cluster.claims.quantity import Quantity

if TYPE_CHECKING:
    from cel_expr_python.cel import Env

_NANO = 10**9
_SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_LOOSE = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(.*)")


class CelMissing(RelumeError):
    """The CEL implementation is not installed."""

    reason = "cel-not-installed"


def of_quantity(value: Quantity) -> list[int]:
    """A quantity as CEL sees it."""
    whole = value // 1
    return [0, int(whole), int((value - whole) * _NANO)]


def of_version(text: str) -> list[int]:
    """A semantic version (semver 2.0.0) as CEL sees it: such lists compare as versions do.

    After the core comes 1 for a release, or 0 and each pre-release identifier. Raises ValueError
    for what is not a semantic version.
    """
    found = _SEMVER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a semantic version (write major.minor.patch)")
    encoded = [1, *(int(part) for part in found.groups()[:3]), int(found[4] is None)]
    for identifier in found[4].split(".") if found[4] else ():
        if identifier.isdigit():
            if len(identifier) > 1 and identifier.startswith("0"):
                raise ValueError(f"{text!r}: a number must not start with 0")
            encoded += [1, int(identifier)]
        else:
            # After every number, letter by letter; 0 ends the identifier, so a prefix sorts first.
            encoded += [2, *(ord(letter) for letter in identifier), 0]
    return encoded


def _of_loose_version(text: str, normalise: bool) -> list[int]:
    """What semver(text, true) reads: a leading v, leading zeros and missing parts are allowed."""
    found = _LOOSE.fullmatch(text) if normalise else None
    if found is not None:
        text = ".".join(str(int(part or 0)) for part in found.groups()[:3]) + found[4]
    return of_version(text)


@lru_cache(maxsize=1)
def environment() -> "Env":
    """The environment in which selectors compile; made once."""
    try:
        from cel_expr_python import cel
        from cel_expr_python.ext import ext_bindings, ext_math, ext_optional, ext_strings
    except ImportError:
        raise CelMissing(
            "evaluating selectors needs cel-expr-python: pip install 'relume[cluster]'"
        ) from None

    kind = cel.Type
    numbers, text = kind.List(kind.INT), kind.STRING
    functions: list[cel.FunctionDecl] = []

    def add(name: str, *overloads: tuple[object, list[object], Callable[..., object]]) -> None:
        member = name not in ("quantity", "isQuantity", "semver", "isSemver")
        made = [
            cel.Overload(f"dra_{name}_{i}", result, takes, member, run)
            for i, (result, takes, run) in enumerate(overloads)
        ]
        functions.append(cel.FunctionDecl(name, made))

    flagged = [text, kind.BOOL]
    add("quantity", (numbers, [text], _parsed))
    add("isQuantity", (kind.BOOL, [text], _reads(_parsed)))
    add("semver", (numbers, [text], of_version), (numbers, flagged, _of_loose_version))
    add(
        "isSemver",
        (kind.BOOL, [text], _reads(of_version)),
        (kind.BOOL, flagged, _reads(_of_loose_version)),
    )
    two = [numbers, numbers]
    add("compareTo", (kind.INT, two, _compare))
    add("isLessThan", (kind.BOOL, two, lambda a, b: _compare(a, b) < 0))
    add("isGreaterThan", (kind.BOOL, two, lambda a, b: _compare(a, b) > 0))
    add("sign", (kind.INT, [numbers], lambda a: _compare(a, [0, 0, 0])))
    add("isInteger", (kind.BOOL, [numbers], lambda a: _checked(a, 0)[2] == 0))
    add("asInteger", (kind.INT, [numbers], _as_integer))
    add("asApproximateFloat", (kind.DOUBLE, [numbers], _as_float))
    for name, sign in (("add", 1), ("sub", -1)):
        add(
            name,
            (numbers, two, lambda a, b, sign=sign: _sum(a, b, sign)),
            (numbers, [numbers, kind.INT], lambda a, i, sign=sign: _sum(a, [0, i, 0], sign)),
        )
    for place, name in enumerate(("major", "minor", "patch"), 1):
        add(name, (kind.INT, [numbers], lambda a, place=place: _checked(a, 1)[place]))
    scalars = (text, kind.INT, kind.BOOL)
    add(
        "includes",
        *((kind.BOOL, [one, one], lambda a, b: a == b) for one in scalars),
        *((kind.BOOL, [kind.LIST, one], lambda a, b: b in list(a)) for one in scalars),
        (kind.BOOL, [kind.LIST, kind.LIST], _includes_version),
    )
    return cel.NewEnv(
        variables={
            "device.driver": text,
            "device.attributes": kind.Map(text, kind.Map(text, kind.DYN)),
            "device.capacity": kind.Map(text, kind.Map(text, numbers)),
            "device.allowMultipleAllocations": kind.BOOL,
        },
        functions=functions,
        extensions=[
            ext_optional.ExtOptional(),
            ext_bindings.ExtBindings(),
            ext_strings.ExtStrings(),
            ext_math.ExtMath(),
        ],
    )


def _parsed(text: str) -> list[int]:
    return of_quantity(quantity.parse(text))


def _reads(parse: Callable[..., object]) -> Callable[..., bool]:
    """Whether `parse` reads its arguments."""

    def reads(*given: object) -> bool:
        try:
            parse(*given)
        except ValueError:
            return False
        return True

    return reads


def _compare(one: Sequence[int], other: Sequence[int]) -> int:
    a, b = list(one), list(other)
    if not a or not b or a[0] != b[0]:
        raise ValueError("a quantity and a version cannot be compared")
    return (a > b) - (a < b)


def _checked(value: Sequence[int], form: int) -> list[int]:
    """The list as it is, if it is a quantity (form 0) or a version (form 1)."""
    numbers = list(value)
    if not numbers or numbers[0] != form:
        raise ValueError("not a version" if form else "not a quantity")
    return numbers


def _as_integer(value: Sequence[int]) -> int:
    _, whole, nanos = _checked(value, 0)
    if nanos:
        raise ValueError("the quantity is not an integer")
    return whole


def _as_float(value: Sequence[int]) -> float:
    _, whole, nanos = _checked(value, 0)
    return whole + nanos / _NANO


def _sum(one: Sequence[int], other: Sequence[int], sign: int) -> list[int]:
    a, b = _checked(one, 0), _checked(other, 0)
    nanos = (a[1] + sign * b[1]) * _NANO + a[2] + sign * b[2]
    return [0, nanos // _NANO, nanos % _NANO]


def _includes_version(one: Sequence[object], other: Sequence[int]) -> bool:
    """A version equals a version; a list of versions includes one."""
    mine, wanted = list(one), list(other)
    if mine and not isinstance(mine[0], int):
        return any(list(item) == wanted for item in mine if isinstance(item, Sequence))
    return mine == wanted
