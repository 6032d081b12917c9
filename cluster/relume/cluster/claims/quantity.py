"""Kubernetes quantities (`apimachinery/pkg/api/resource`), exact down to one nano.

A quantity is an `int` when it is whole and a `Fraction` otherwise; both compare and add as numbers.
"""

import re
from fractions import Fraction
from functools import lru_cache

Quantity = int | Fraction

_FORM = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[KMGTPE]i|[numkMGTPE])?"
)
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_NANO = 10**9
_LARGEST = 2**63 - 1


@lru_cache(maxsize=65536)
def parse(text: str) -> Quantity:
    """The value of `text` (`81559Mi`, `1500m`, `2e3`), rounded up to a whole nano.

    Raises ValueError for what Kubernetes does not read as a quantity.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity (write for example 40Gi, 500m or 2)")
    number, suffix = Fraction(found[1]), found[2] or ""
    if suffix in _BINARY:
        value = number * 2 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        value = number * Fraction(10) ** _DECIMAL[suffix]
    else:
        value = number * Fraction(10) ** int(suffix[1:] or 0)
    rounded = Fraction(-(-value * _NANO // 1), _NANO)
    capped = max(min(rounded, Fraction(_LARGEST)), Fraction(-_LARGEST))
    return int(capped) if capped.denominator == 1 else capped


def write(value: Quantity) -> str:
    """`value` for people: in the largest binary unit below it, one decimal, `79.6Gi`."""
    for suffix, power in reversed(_BINARY.items()):
        if abs(value) >= 2**power and value * 1024 % 2**power == 0:
            return f"{float(value / Fraction(2**power)):.1f}".removesuffix(".0") + suffix
    return str(value) if isinstance(value, int) else f"{float(value):g}"
