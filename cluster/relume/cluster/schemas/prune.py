"""What an API server keeps of a document: its known fields."""

from relume.cluster.schemas.tables import Shape
from relume.config.nodes import Items, Node, Scalar, Table


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
