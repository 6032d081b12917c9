"""DRA's CEL selectors, compiled and evaluated by cel-cpp.

The variables and functions are those of Kubernetes (`dynamic-resource-allocation/cel`): `device`
with driver, attributes, capacity and allowMultipleAllocations; quantity() and semver() with their
methods; includes(); optional syntax, cel.bind and the string functions. Quantities and versions
travel as lists of integers, so that comparing one with a string is a compile error here as there.

Known differences: `device` on its own (`cel.bind(d, device, …)`) does not compile; the cost limit
is not checked; Kubernetes' list, regular-expression, URL, IP and CIDR libraries are missing.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from relume.base.errors import InvalidInput
from relume.cluster.claims.cel_library import environment, of_quantity, of_version
from relume.cluster.claims.devices import Device, DeviceAttribute, split

if TYPE_CHECKING:
    from cel_expr_python.cel import Expression

SelectorVerdict = Literal["match", "no match", "error"]

SECTION = r"device\.(attributes|capacity)\[\s*['\"]([^'\"]+)['\"]\s*\]"
"""A pattern for what a selector reads of a device: the section, and the domain in it."""
QUOTED = r"['\"]([^'\"]*)['\"]"
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Code that may reach a key without writing its name: then every key counts as read.
_WHOLE = re.compile(r"\b(exists|exists_one|all|filter|map|size)\b|\+|\bdevice\s*[,)]")
_MISSING = re.compile(r'Key not found in map : "(.*)"')
_WHERE = re.compile(r"ERROR: <input>:(\d+):(\d+): ([^|\n]*)")


class CelError(InvalidInput):
    """An expression does not compile; `str()` names line and column of the expression."""

    reason = "cel-does-not-compile"


@dataclass(frozen=True, slots=True)
class SelectorOutcome:
    """What one expression says of one device; `message` only for an error."""

    verdict: SelectorVerdict
    message: str = ""


@dataclass(slots=True)
class Reads:
    """Which keys some code can reach: names of attributes and capacities, or None for any."""

    names: frozenset[str] | None
    _known: dict[str, bool] = field(default_factory=dict)

    def shape(self, device: Device) -> object:
        """Equal for two devices that the code cannot tell apart."""
        known, reaches = self._known, self._reaches
        attributes = [
            (key, attribute)
            for key, attribute in device.attributes.items()
            if (known[key] if key in known else reaches(key))
        ]
        capacity = [
            (key, capacity.value)
            for key, capacity in device.capacity.items()
            if (known[key] if key in known else reaches(key))
        ]
        return device.driver, device.shareable, tuple(attributes), tuple(capacity)

    def _reaches(self, key: str) -> bool:
        found = self._known[key] = self.names is None or split(key)[1] in self.names
        return found

    def __or__(self, other: "Reads") -> "Reads":
        if self.names is None or other.names is None:
            return Reads(None)
        return Reads(self.names | other.names)


@dataclass(frozen=True, slots=True)
class SelectorProgram:
    """One compiled expression, and what it can read of a device.

    `_domains` are the strings in it: a domain that a device lacks is an empty table to it.
    """

    reads: Reads
    _code: "Expression"
    _domains: tuple[str, ...]

    def evaluate(self, device: Device) -> SelectorOutcome:
        """The outcome for a device. A missing key is an error, as it is for the scheduler."""
        domains = (*self._domains, device.driver)
        attributes: dict[str, dict[str, object]] = {domain: {} for domain in domains}
        capacity: dict[str, dict[str, object]] = {domain: {} for domain in domains}
        for key, attribute in device.attributes.items():
            domain, ident = split(key)
            try:
                attributes.setdefault(domain, {})[ident] = _native(attribute)
            except ValueError as error:
                return SelectorOutcome("error", f"attribute {key}: {error}")
        for key, held in device.capacity.items():
            domain, ident = split(key)
            capacity.setdefault(domain, {})[ident] = of_quantity(held.value)
        data = {
            "device.driver": device.driver,
            "device.attributes": attributes,
            "device.capacity": capacity,
            "device.allowMultipleAllocations": device.shareable,
        }
        result = self._code.eval(data=data)
        kind = result.type().name()
        if kind == "ERROR":
            return SelectorOutcome("error", _in_kubernetes_words(str(result.value())))
        if kind != "BOOL":
            return SelectorOutcome("error", f"the result is of type {kind.lower()}, not bool")
        return SelectorOutcome("match" if result.value() else "no match")


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> SelectorProgram:
    """Compile a selector. Raises CelError with the position of the first mistake."""
    try:
        code = environment().compile(text)
    except RuntimeError as error:
        raise CelError(_compile_message(str(error))) from None
    kind = code.return_type().name()
    if kind not in ("BOOL", "DYN"):
        named = "a quantity or version" if kind.startswith("LIST") else kind.lower()
        raise CelError(f"must evaluate to bool, not to {named}")
    literals = tuple(a or b for a, b in _STRING.findall(text))
    reads = None if _WHOLE.search(text) else frozenset((*_WORD.findall(text), *literals))
    return SelectorProgram(Reads(reads), code, literals)


def _native(attribute: DeviceAttribute) -> object:
    """The attribute's value as CEL sees it. Raises ValueError for a wrong version."""
    value = attribute.value
    if attribute.kind != "version":
        return list(value) if isinstance(value, tuple) else value
    return (
        [of_version(str(v)) for v in value] if isinstance(value, tuple) else of_version(str(value))
    )


def _in_kubernetes_words(message: str) -> str:
    """The scheduler's words (cel-go) for the same error."""
    if missing := _MISSING.search(message):
        return f"no such key: {missing[1]}"
    if "No matching overloads found" in message:
        return f"no such overload: {message.partition(':')[2].partition(':')[2].strip()}"
    return message.partition(": ")[2] or message


def _compile_message(message: str) -> str:
    found = _WHERE.search(message)
    if found is None:
        return message.strip().splitlines()[0]
    line, column, what = found.groups()
    what = what.removesuffix(" (in container '')").strip()
    what = what.replace("list(int)", "quantity or semver")
    return f"line {line}, column {column}: {what}"
