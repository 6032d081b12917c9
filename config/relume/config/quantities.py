"""Quantities of memory as Kubernetes writes them, in bytes."""

import re

from relume.config.nodes import Node

_FORM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|[KMGTPE]i|[eE][0-9]{1,2})?")
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3} | {
    unit: scale
    for power, letter in enumerate("KMGTPE", start=1)
    for unit, scale in ((letter, 1000.0**power), (f"{letter}i", 1024.0**power))
}


def read_bytes(node: Node) -> int:
    """The bytes of `256Mi` or `1.5G`. Raises InvalidManifest for anything else, and for nothing."""
    text = node.text()
    found = _FORM.fullmatch(text)
    if found is None:
        raise node.wrong(f"invalid value: {text}: no quantity of memory: write for example 256Mi")
    unit = found[2] or ""
    scale = 10.0 ** int(unit[1:]) if unit[:1] in ("e", "E") and unit[1:].isdigit() else _UNITS[unit]
    amount = int(float(found[1]) * scale)
    if amount <= 0:
        raise node.wrong(f"invalid value: {text}: must be more than 0")
    return amount
