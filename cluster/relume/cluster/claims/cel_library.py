"""Kubernetes' CEL variables and functions for DRA, over cel-cpp.

A quantity is the list [0, whole, nanos], a version [1, major, minor, patch, …]: cel-cpp picks
overloads by the kind of a value, and lists are the kind that no selector uses by itself.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING
from relume.base.errors import RelumeError
from relume.cluster.claims import quantity, versions
from relume.cluster.claims.quantity import Quantity
if TYPE_CHECKING:
    from cel_expr_python.cel import Env
import re


_NANO = 10**9


class CelMissing(RelumeError):
    """The CEL implementation is not installed."""

    reason = "cel-not-installed"


def of_quantity(value: Quantity) -> list[int]:
    """A quantity as CEL sees it."""
    whole = value // 1
    return [0, int(whole), int((value - whole) * _NANO)]


def of_version(text: str) -> list[int]:
    """A version as CEL sees it. Raises ValueError for what is not one."""
    return [1, *versions.encode(text)]


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

    add("quantity", (numbers, [text], lambda s: of_quantity(quantity.parse(s))))
    add("isQuantity", (kind.BOOL, [text], lambda s: _reads(quantity.parse, s)))
    add(
        "semver",
        (numbers, [text], of_version),
        (numbers, [text, kind.BOOL], lambda s, n: of_version(versions.normalised(s) if n else s)),
    )
    add(
        "isSemver",
        (kind.BOOL, [text], lambda s: _reads(versions.encode, s)),
        (
            kind.BOOL,
            [text, kind.BOOL],
            lambda s, n: _reads(versions.encode, versions.normalised(s) if n else s),
        ),
    )
    add("compareTo", (kind.INT, [numbers, numbers], _compare))
    add("isLessThan", (kind.BOOL, [numbers, numbers], lambda a, b: _compare(a, b) < 0))
    add("isGreaterThan", (kind.BOOL, [numbers, numbers], lambda a, b: _compare(a, b) > 0))
    add("sign", (kind.INT, [numbers], lambda a: _compare(a, [0, 0, 0])))
    add("isInteger", (kind.BOOL, [numbers], lambda a: _whole(a)[2] == 0))
    add("asInteger", (kind.INT, [numbers], _as_integer))
    add(
        "asApproximateFloat",
        (kind.DOUBLE, [numbers], lambda a: _whole(a)[1] + _whole(a)[2] / _NANO),
    )
    plus = [(numbers, [numbers, numbers], lambda a, b: _sum(a, b, 1))]
    minus = [(numbers, [numbers, numbers], lambda a, b: _sum(a, b, -1))]
    with_integers = (numbers, [numbers, kind.INT])
    add("add", *plus, (*with_integers, lambda a, i: _sum(a, [0, i, 0], 1)))
    add("sub", *minus, (*with_integers, lambda a, i: _sum(a, [0, i, 0], -1)))
    for place, name in enumerate(("major", "minor", "patch")):
        add(name, (kind.INT, [numbers], lambda a, place=place: _version(a)[1 + place]))
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


def _reads(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _compare(one: Sequence[int], other: Sequence[int]) -> int:
    a, b = list(one), list(other)
    if not a or not b or a[0] != b[0]:
        raise ValueError("a quantity and a version cannot be compared")
    return (a > b) - (a < b)


def _whole(value: Sequence[int]) -> list[int]:
    numbers = list(value)
    if not numbers or numbers[0] != 0:
        raise ValueError("not a quantity")
    return numbers


def _version(value: Sequence[int]) -> list[int]:
    numbers = list(value)
    if not numbers or numbers[0] != 1:
        raise ValueError("not a version")
    return numbers


def _as_integer(value: Sequence[int]) -> int:
    numbers = _whole(value)
    if numbers[2]:
        raise ValueError("the quantity is not an integer")
    return numbers[1]


def _sum(one: Sequence[int], other: Sequence[int], sign: int) -> list[int]:
    a, b = _whole(one), _whole(other)
    nanos = (a[1] + sign * b[1]) * _NANO + a[2] + sign * b[2]
    return [0, nanos // _NANO, nanos % _NANO]


def _includes_version(one: Sequence[object], other: Sequence[int]) -> bool:
    """A version equals a version; a list of versions includes one."""
    mine, wanted = list(one), list(other)
    if mine and not isinstance(mine[0], int):
        return any(list(item) == wanted for item in mine if isinstance(item, Sequence))
    return mine == wanted


_FORM = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_LOOSE = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?(.*)")


def encode(text: str) -> list[int]:
    """`1.2.3-rc.1` as integers: core, then 1 for a release or 0 and each pre-release identifier.

    Raises ValueError for what is not a semantic version.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a semantic version (write major.minor.patch)")
    core = [int(part) for part in found.groups()[:3]]
    if found[4] is None:
        return [*core, 1]
    encoded = [*core, 0]
    for identifier in found[4].split("."):
        if identifier.isdigit():
            if len(identifier) > 1 and identifier.startswith("0"):
                raise ValueError(f"{text!r}: a number must not start with 0")
            encoded += [1, int(identifier)]
        else:
            # After every number, letter by letter; 0 ends the identifier, so a prefix sorts first.
            encoded += [2, *(ord(letter) for letter in identifier), 0]
    return encoded


def normalised(text: str) -> str:
    """The version that semver(text, true) reads: no leading v or zeros, three parts."""
    found = _LOOSE.fullmatch(text)
    if found is None:
        return text
    core = ".".join(str(int(part or 0)) for part in found.groups()[:3])
    return core + found[4]
