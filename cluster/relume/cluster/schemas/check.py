"""Hold a document against the type that the API has for it, and keep what an API server keeps.

A value of the wrong type ends the check below it; everything else is gathered. `null` counts as
absent, as it does for the API server.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from relume.cluster.claims import quantity
from relume.cluster.findings import Finding, at
from relume.cluster.schemas.tables import Shape, Type
from relume.config.fields import did_you_mean
from relume.config.nodes import Items, Node, Scalar, Table

BASE64 = "illegal base64 data"
_WORDS = {
    "object": "a table of fields",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "int-or-string": "a whole number or a string",
    "quantity": "a quantity, such as 2, 500m or 16Gi",
}
_SCALARS = {
    "string": {"string"},
    "integer": {"integer"},
    "number": {"integer", "number"},
    "boolean": {"boolean"},
    "int-or-string": {"integer", "string"},
    "quantity": {"integer", "number", "string"},
}
_BITS = {"int32": 31, "int64": 63}
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def check_shape(node: Node, shape: Shape) -> Iterator[Finding]:
    """Yield what differs from `shape` in `node` and below it."""
    kind = shape.type.get("type")
    if kind is None:
        return
    if kind == "object" and isinstance(node, Table):
        yield from _table(node, shape)
    elif kind == "array" and isinstance(node, Items):
        yield from _items(node, shape)
    elif isinstance(node, Scalar) and node.kind in _SCALARS.get(kind, ()):
        yield from _scalar(node, shape.type)
    else:
        hint = ""
        if kind == "string" and isinstance(node, Scalar) and node.kind != "null":
            hint = f'write "{node.written}" in quotes'
        yield at(node, "wrong-type", f"must be {_WORDS[kind]}, not {node.what}", hint)


def _table(table: Table, shape: Shape) -> Iterator[Finding]:
    fields = shape.type.get("fields")
    values = shape.type.get("values")
    for name, node in table:
        if fields is not None and name in fields:
            yield from check_shape(node, shape.at(fields[name]))
        elif values is not None:
            yield from check_shape(node, shape.at(values))
        elif fields is not None:
            free = [field for field in fields if table.get(field) is None]
            yield from _unknown(node, name, free, shape.type)
    for name in shape.type.get("required", ()):
        if table.get(name) is None:
            field = f"{table.path}.{name}" if table.path else name
            yield at(table, "missing-field", f"missing field: {field}", field=field)


def _unknown(node: Node, name: str, free: Sequence[str], of: Type) -> Iterator[Finding]:
    """What becomes of an unknown field; `free`: the known fields that are not there already."""
    unknown = of.get("unknown")
    if unknown == "keep":
        return
    hint = did_you_mean(name, free)
    reason = "undecodable-field" if unknown == "refuse" else "unknown-field"
    yield at(node, reason, f'unknown field "{node.path}"{hint}', _instead(hint))


def _instead(hint: str) -> str:
    return f"Write {hint.rsplit(' ', 1)[1].rstrip('?')}, or remove the field." if hint else ""


def _items(items: Items, shape: Shape) -> Iterator[Finding]:
    least = shape.type.get("min_items", 0)
    if len(items.nodes) < least:
        yield at(items, "out-of-range", f"must have at least {least} item")
    if len(items.nodes) > (most := shape.type.get("max_items", len(items.nodes))):
        yield at(items, "too-many", f"{len(items.nodes)} items: must have at most {most}")
    number = shape.type.get("items")
    if number is None:
        return
    for node in items.nodes:
        yield from check_shape(node, shape.at(number))
    if "keys" in shape.type:
        yield from _repeated(items, shape.type)


def _repeated(items: Items, of: Type) -> Iterator[Finding]:
    seen: set[object] = set()
    for node in items.nodes:
        names: object = node.content if isinstance(node, Scalar) else None
        if isinstance(node, Table):
            keys = [(str(key), default) for key, default in of["keys"]]
            names = tuple(getattr(node.get(key), "content", default) for key, default in keys)
        if names in seen and names is not None:
            shown = ", ".join(map(str, names)) if isinstance(names, tuple) else str(names)
            yield at(node, "duplicate-item", f"duplicate value: {shown}")
        seen.add(names)


def _scalar(node: Scalar, of: Type) -> Iterator[Finding]:
    text = node.content
    if "enum" in of and text not in of["enum"]:
        known = ", ".join(f'"{word}"' for word in of["enum"])
        hint = did_you_mean(text, of["enum"])
        yield at(
            node, "unsupported-value", f'unsupported value: "{text}": supported: {known}{hint}'
        )
    if of["type"] == "quantity" and not _is_quantity(text):
        yield at(node, "invalid-value", f"invalid value: {text}: must be {_WORDS['quantity']}")
    if of["type"] in ("integer", "number"):
        yield from _number(node, of)
    elif of["type"] == "string":
        yield from _string(node, of)


def _is_quantity(text: str) -> bool:
    try:
        quantity.parse(text)
    except ValueError:
        return False
    return True


def _number(node: Scalar, of: Type) -> Iterator[Finding]:
    value = float(node.content)
    bits = _BITS.get(of.get("format", ""), 63)
    low, high = of.get("min", -(2.0**bits)), of.get("max", 2.0**bits - 1)
    if not low <= value <= high:
        bounds = f"{low:.0f} <= {node.written} <= {high:.0f}"
        yield at(node, "out-of-range", f"expected {bounds}")


def _string(node: Scalar, of: Type) -> Iterator[Finding]:
    text, length = node.content, len(node.content)
    if length < of.get("min_length", 0) or length > of.get("max_length", length):
        bounds = f"{of.get('min_length', 0)} <= {length} <= {of.get('max_length', length)}"
        yield at(node, "out-of-range", f"expected {bounds} characters")
    pattern = of.get("pattern")
    if pattern is not None and not re.search(pattern, text):
        yield at(node, "invalid-value", f"invalid value: {text}: must match {pattern}")
    if of.get("format") == "date-time" and not _DATE.fullmatch(text):
        yield at(node, "invalid-value", f"invalid value: {text}: write 2026-01-31T12:00:00Z")
    if of.get("format") == "byte" and not _is_base64(text):
        yield at(node, "invalid-value", BASE64, "Write the bytes in base64.")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(re.sub(r"[\r\n]", "", text), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def fractions(node: Node, shape: Shape) -> Iterator[Finding]:
    """Yield the quantities that are numbers with a fraction, which no CRD takes.

    A CRD has a whole number or a string there. Kubernetes' own kinds, and webhooks that read a
    document into its types first, take any number.
    """
    of = shape.type
    if isinstance(node, Table):
        fields, values = of.get("fields", {}), of.get("values")
        for name, below in node:
            number = fields.get(name, values)
            if number is not None:
                yield from fractions(below, shape.at(number))
    elif isinstance(node, Items) and "items" in of:
        for item in node.nodes:
            yield from fractions(item, shape.at(of["items"]))
    elif isinstance(node, Scalar) and of.get("type") == "quantity" and node.kind == "number":
        hint = f'write "{node.written}" in quotes'
        yield at(node, "wrong-type", f"must be {_WORDS['int-or-string']}, not {node.what}", hint)


def pruned(node: Node, shape: Shape) -> Node:
    """`node` without null fields, and without those that its type does not have."""
    if isinstance(node, Table):
        return Table(node.file, node.line, node.path, _kept(node, shape))
    if isinstance(node, Items):
        number = shape.type.get("items")
        if number is None:
            return node
        items = tuple(pruned(one, shape.at(number)) for one in node.nodes)
        return Items(node.file, node.line, node.path, items)
    return node


def _kept(table: Table, shape: Shape) -> dict[str, Node]:
    fields, values = shape.type.get("fields"), shape.type.get("values")
    kept: dict[str, Node] = {}
    for name, node in table.entries.items():
        if isinstance(node, Scalar) and node.kind == "null":
            continue
        if fields is not None and name in fields:
            kept[name] = pruned(node, shape.at(fields[name]))
        elif values is not None:
            kept[name] = pruned(node, shape.at(values))
        elif fields is None or shape.type.get("unknown") == "keep":
            kept[name] = node
    return kept
