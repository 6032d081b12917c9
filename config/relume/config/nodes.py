"""A manifest as a tree in which every value knows its file, line and path.

Values are what an API server makes of them (`relume.config.yaml_scalars`): an unquoted 10 is a
number and an unquoted `on` a boolean, and neither passes for a string. `null` counts as absent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from relume.base.errors import InvalidManifest
from relume.config.resources import Origin

Kind = Literal["string", "integer", "number", "boolean", "null"]

_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Node:
    """One value. `path` is written as Kubernetes writes it (`spec.filters[0].exact`)."""

    file: Path
    line: int
    path: str

    @property
    def what(self) -> str:
        """What kind of value it is, in words."""
        raise NotImplementedError

    @property
    def origin(self) -> Origin:
        """Where the value was written."""
        return Origin(self.file, self.line, self.path)

    def wrong(self, message: str) -> InvalidManifest:
        """The error that this value is wrong."""
        return InvalidManifest(message, file=self.file, line=self.line, field=self.path)

    def _not(self, wanted: str, hint: str = "") -> NoReturn:
        raise self.wrong(f"must be {wanted}, not {self.what}{hint}")

    def table(self) -> "Table":
        """The value as fields with names."""
        self._not("a table of fields")

    def items(self) -> "tuple[Node, ...]":
        """The value as a list."""
        self._not("a list")

    def text(self) -> str:
        """The value as a string."""
        self._not("a string")

    def integer(self, least: int = 0, most: int = _INT32) -> int:
        """The value as a whole number within bounds (a 32-bit one, like the API's)."""
        self._not("a whole number")

    def boolean(self) -> bool:
        """The value as true or false."""
        self._not("true or false")

    def filled(self) -> str:
        """The value as a string that is not empty."""
        text = self.text()
        if not text.strip():
            raise self.wrong("must not be empty")
        return text

    def one_of(self, *choices: str) -> str:
        """The value as one of `choices`, exactly as written there."""
        text = self.text()
        if text not in choices:
            raise self.wrong(f"invalid value: {text}: must be {' or '.join(choices)}")
        return text


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    """A string, number, boolean or null.

    `content` is its text in the JSON that an API server makes of the file, without quotes: `1000`
    for an unquoted 1e3. `written` is its text in the file.
    """

    kind: Kind
    content: str
    written: str

    @property
    def what(self) -> str:
        return "nothing" if self.kind == "null" else f"the {self.kind} {self.written}"

    def text(self) -> str:
        if self.kind == "null":
            self._not("a string")
        if self.kind != "string":
            self._not("a string", f': write "{self.written}"')
        return self.content

    def integer(self, least: int = 0, most: int = _INT32) -> int:
        if self.kind != "integer":
            self._not("a whole number")
        if not least <= int(self.content) <= most:
            raise self.wrong(f"expected {least} <= {self.written} <= {most}")
        return int(self.content)

    def boolean(self) -> bool:
        if self.kind != "boolean":
            self._not("true or false")
        return self.content == "true"


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A list."""

    nodes: tuple[Node, ...]

    @property
    def what(self) -> str:
        return "a list"

    def items(self) -> tuple[Node, ...]:
        return self.nodes


@dataclass(frozen=True, slots=True)
class Table(Node):
    """Fields with names, in the order of the file."""

    entries: Mapping[str, Node]

    @property
    def what(self) -> str:
        return "a table of fields"

    def table(self) -> "Table":
        return self

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Go through every field that is not null."""
        return ((name, node) for name, node in self.entries.items() if not _is_null(node))

    def get(self, name: str) -> Node | None:
        """The field, or None where it is absent or null."""
        node = self.entries.get(name)
        return None if node is None or _is_null(node) else node

    def need(self, name: str, why: str) -> Node:
        """The field; `why` completes "is missing: …"."""
        node = self.get(name)
        if node is None:
            raise self.missing(name, f"is missing: {why}")
        return node

    def missing(self, name: str, message: str) -> InvalidManifest:
        """The error about a field that is not there, at the line of this table."""
        at = self.place_of(name)
        return InvalidManifest(message, file=at.file, line=at.line, field=at.field)

    def place_of(self, name: str) -> Origin:
        """Where the field is written; the line of this table where it is not there."""
        node = self.get(name)
        path = f"{self.path}.{name}" if self.path else name
        return Origin(self.file, self.line, path) if node is None else node.origin

    def texts(self) -> dict[str, str]:
        """The table as names and strings."""
        return {name: node.text() for name, node in self}


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.kind == "null"
