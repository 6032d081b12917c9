"""Why a clause does not hold for a device, in a few words: `memory 79.6Gi < 80Gi`."""

import re

from relume.cluster.claims import quantity
from relume.cluster.claims.devices import Attribute, Device

_KEY = r"device\.(attributes|capacity)\[\s*['\"]([^'\"]+)['\"]\s*\]\.([A-Za-z_]\w*)"
_QUOTED = r"['\"]([^'\"]*)['\"]"
_COMPARED = re.compile(
    rf"{_KEY}\.compareTo\((?:quantity|semver)\({_QUOTED}\)\)\s*(>=|<=|==|!=|<|>)\s*(-?\d+)"
)
_ORDERED = re.compile(rf"{_KEY}\.(isGreaterThan|isLessThan)\((?:quantity|semver)\({_QUOTED}\)\)")
_EQUALS = re.compile(rf"{_KEY}\s*==\s*(?:{_QUOTED}|(-?\d+|true|false))")
_DRIVER = re.compile(rf"device\.driver\s*==\s*{_QUOTED}")
_HAS = re.compile(rf"has\({_KEY}\)")
_READ = re.compile(_KEY)
_OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "="}


def conjuncts(expression: str) -> list[str]:
    """The parts of an expression between its outermost `&&`."""
    parts, depth, start, quote, at = [], 0, 0, "", 0
    while at < len(expression):
        letter = expression[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif depth == 0 and letter in "|?" and expression[at - 1] != ".":
            return [expression.strip()]  # `a && b || c` is no conjunction
        elif depth == 0 and expression.startswith("&&", at):
            parts.append(expression[start:at].strip())
            start, at = at + 2, at + 1
        at += 1
    parts.append(expression[start:].strip())
    return [part for part in parts if part]


def why_not(clause: str, device: Device) -> str:
    """What the device has instead of what the clause wants."""
    if found := _DRIVER.fullmatch(clause):
        return f"driver is {device.driver}, not {found[1]}"
    if found := _HAS.fullmatch(clause):
        return f"has no {_short(found[2], found[3], device)}"
    if found := _COMPARED.fullmatch(clause):
        sign = _OPPOSITE[found[5]] if found[6] == "0" else f"does not compare {found[5]} to"
        return f"{found[3]} {_value(found, device)} {sign} {found[4]}"
    if found := _ORDERED.fullmatch(clause):
        sign = "<=" if found[4] == "isGreaterThan" else ">="
        return f"{found[3]} {_value(found, device)} {sign} {found[5]}"
    if found := _EQUALS.fullmatch(clause):
        return f"{found[3]} is {_value(found, device)}, not {found[4] or found[5]}"
    return values_read(clause, device) or "is false"


def values_read(clause: str, device: Device) -> str:
    """The values that the clause reads, `type=gpu, memory=79.6Gi`; empty when none is plain."""
    pairs = dict.fromkeys((found[3], _value(found, device)) for found in _READ.finditer(clause))
    return ", ".join(f"{name}={value}" for name, value in pairs)


def show(attribute: Attribute) -> str:
    """An attribute's value for people."""
    values = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
    words = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    return words[0] if not isinstance(attribute.value, tuple) else f"[{', '.join(words)}]"


def _value(found: "re.Match[str]", device: Device) -> str:
    key = f"{found[2]}/{found[3]}"
    if found[1] == "capacity":
        held = device.capacity.get(key)
        return quantity.write(held.value) if held else "(none)"
    attribute = device.attributes.get(key)
    return show(attribute) if attribute else "(none)"


def _short(domain: str, ident: str, device: Device) -> str:
    return ident if domain == device.driver else f"{domain}/{ident}"
