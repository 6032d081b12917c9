"""Kubernetes objects as plain data that still know their place in a file, and their fields.

An inventory of a large cluster has hundreds of thousands of values, so lines are looked up only
when something is wrong: then the file is read a second time, with places.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relume.base.errors import InvalidManifest
from relume.cluster.claims import quantity
from relume.cluster.claims.quantity import Quantity
from relume.cluster.claims.yaml_files import FieldPath, line_of, values
from relume.config.nodes import Items, Node, Table
from relume.config.yaml_source import plain


@dataclass(frozen=True, slots=True)
class Document:
    """One object. `inside` leads to it from the root of document `index` of `file` (Lists)."""

    file: Path
    index: int
    data: Mapping[str, object]
    inside: FieldPath = ()
    node: Node | None = None

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", ""))

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        return str(self.data.get("apiVersion", "")).rpartition("/")[0]

    @property
    def name(self) -> str:
        metadata = self.data.get("metadata")
        return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""

    @property
    def namespace(self) -> str:
        metadata = self.data.get("metadata")
        found = metadata.get("namespace") if isinstance(metadata, Mapping) else None
        return str(found) if found else "default"

    @property
    def title(self) -> str:
        """Kind, namespace and name: `Pod default/a`."""
        return f"{self.kind} {self.namespace}/{self.name}"

    def line(self, path: FieldPath) -> int:
        """The line of the value at `path`, or of the nearest value above it that exists."""
        if self.node is not None:
            return _descend(self.node, path).line
        return line_of(self.file, self.index, (*self.inside, *path))

    def wrong(self, path: FieldPath, message: str) -> InvalidManifest:
        """The error that the value at `path` is wrong."""
        return InvalidManifest(
            message, file=self.file, line=self.line(path), field=written(path) or "document"
        )


def written(path: FieldPath) -> str:
    """`("spec", "devices", 0)` as Kubernetes writes it: `spec.devices[0]`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def read(file: Path) -> list[Document]:
    """The objects of a YAML or JSON file in order; a List is opened.

    Raises InvalidInput for a file that cannot be read, InvalidManifest for what is not YAML or not
    an object.
    """
    return [
        document
        for index, root in enumerate(values(file))
        if root is not None
        for document in _opened(file, index, root)
    ]


def of_nodes(nodes: Iterable[Node]) -> list[Document]:
    """The same for documents that `relume.config.yaml_source.documents` has read."""
    return [
        Document(node.file, index, document.data, document.inside, _descend(node, document.inside))
        for index, node in enumerate(nodes)
        for document in _opened(node.file, index, plain(node))
    ]


def _opened(file: Path, index: int, root: object, inside: FieldPath = ()) -> Iterator[Document]:
    document = Document(file, index, root if isinstance(root, Mapping) else {}, inside)
    if not isinstance(root, Mapping):
        raise document.wrong((), "must be an object with apiVersion and kind")
    if not document.kind.endswith("List") or "items" not in root:
        yield document
        return
    items = root["items"]
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise document.wrong(("items",), "must be a list")
    for number, item in enumerate(items):
        yield from _opened(file, index, item, (*inside, "items", number))


def _descend(node: Node, path: FieldPath) -> Node:
    """The node at `path`, or the nearest one above it that exists."""
    for step in path:
        below: Node | None = None
        if isinstance(node, Table) and isinstance(step, str):
            below = node.entries.get(step)
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            below = node.nodes[step]
        if below is None:
            break
        node = below
    return node


@dataclass(frozen=True, slots=True)
class Field:
    """A value with its path in the document. Absent and null are both `value is None`."""

    document: Document
    path: FieldPath
    value: object

    @classmethod
    def root(cls, document: Document) -> "Field":
        return cls(document, (), document.data)

    def wrong(self, message: str) -> InvalidManifest:
        """The error that this value is wrong."""
        return self.document.wrong(self.path, message)

    def _not(self, wanted: str) -> InvalidManifest:
        return self.wrong(f"must be {wanted}, not {_what(self.value)}")

    def get(self, *steps: str) -> "Field":
        """The value below; absent where any step is."""
        field = self
        for step in steps:
            value = field._table().get(step) if field.value is not None else None
            field = Field(self.document, (*field.path, step), value)
        return field

    def need(self, *steps: str) -> "Field":
        """The value below, which must be there."""
        field = self.get(*steps)
        if field.value is None:
            raise field.wrong("is missing")
        return field

    @property
    def there(self) -> bool:
        return self.value is not None

    def _table(self) -> Mapping[str, object]:
        if not isinstance(self.value, Mapping):
            raise self._not("a table of fields")
        return self.value

    def raw_entries(self) -> Iterator[tuple[str, object]]:
        """The fields of a table as they were read, for what is too many to make Fields of."""
        table = self._table() if self.value is not None else {}
        return ((str(name), value) for name, value in table.items())

    def entries(self) -> "Iterator[tuple[str, Field]]":
        """The fields of a table by name; nothing where it is absent."""
        return ((name, self.below(name, value)) for name, value in self.raw_entries())

    def below(self, name: str, value: object) -> "Field":
        """The field of a raw entry."""
        return Field(self.document, (*self.path, name), value)

    def items(self) -> "list[Field]":
        """The items of a list; empty where it is absent."""
        if self.value is None:
            return []
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise self._not("a list")
        return [Field(self.document, (*self.path, i), v) for i, v in enumerate(self.value)]

    def text(self, default: str = "") -> str:
        """A string, `default` where it is absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self._not("a string")
        return self.value

    def texts(self, *names: str) -> tuple[str, ...]:
        """The strings below with these names, "" for each that is absent."""
        return tuple(self.get(name).text() for name in names)

    def integer(self, default: int = 0, least: int = 0) -> int:
        """A whole number, `default` where it is absent."""
        if self.value is None:
            return default
        value = self.value
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # of a JSON file: 4.0 is 4, as kubectl sends it
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._not("a whole number")
        if value < least:
            raise self.wrong(f"must be at least {least}, not {value}")
        return value

    def boolean(self) -> bool:
        """True or false; false where it is absent."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self._not("true or false")
        return self.value

    def one_of(self, *choices: str) -> str:
        """One of `choices`, the first where it is absent."""
        text = self.text(choices[0])
        if text not in choices:
            raise self.wrong(f"invalid value: {text}: must be {' or '.join(choices)}")
        return text

    def quantity(self) -> Quantity:
        """A Kubernetes quantity, as a string or a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            raise self._not("a quantity")
        try:
            return quantity.parse(str(self.value))
        except ValueError as error:
            raise self.wrong(str(error)) from error

    def quantities(self) -> dict[str, Quantity]:
        """The quantities of a table by name; empty where it is absent."""
        return {name: field.quantity() for name, field in self.entries()}


def _what(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value!r}"
    return "a list" if isinstance(value, Sequence) else "a table of fields"
