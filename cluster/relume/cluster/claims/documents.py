"""YAML and JSON documents as plain data that still know their place in the file.

An inventory of a large cluster has hundreds of thousands of values, so lines are looked up only
when something is wrong: then the file is read a second time, with places.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import orjson
import yaml
from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.claims import kubectl_yaml
from relume.config.nodes import Items, Node, Scalar, Table
from relume.base.errors import InvalidManifest
from relume.cluster.claims import quantity
from relume.cluster.claims.documents import Document, Step, Steps
from relume.cluster.claims.quantity import Quantity


Step = str | int
Steps = tuple[Step, ...]
_DEEPEST = 64
_MOST_VALUES = 1_000_000  # of one document that has aliases, with the aliases written out


@dataclass(frozen=True, slots=True)
class Document:
    """One object. `inside` leads to it from the root of document `index` of `file` (Lists)."""

    file: Path
    index: int
    data: Mapping[str, object]
    inside: Steps = ()
    node: Node | None = None

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", ""))

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        group, slash, _ = str(self.data.get("apiVersion", "")).rpartition("/")
        return group if slash else ""

    @property
    def name(self) -> str:
        metadata = self.data.get("metadata")
        return str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""

    @property
    def namespace(self) -> str:
        metadata = self.data.get("metadata")
        found = metadata.get("namespace") if isinstance(metadata, Mapping) else None
        return str(found) if found else "default"

    def line(self, path: Steps) -> int:
        """The line of the value at `path`, or of the nearest value above it that exists."""
        if self.node is not None:
            return _descend(self.node, path).line
        return _line(self.file, self.index, (*self.inside, *path))

    def wrong(self, path: Steps, message: str) -> InvalidManifest:
        """The error that the value at `path` is wrong."""
        return InvalidManifest(
            message, file=self.file, line=self.line(path), field=written(path) or "document"
        )


def written(path: Steps) -> str:
    """`("spec", "devices", 0)` as Kubernetes writes it: `spec.devices[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read(file: Path) -> list[Document]:
    """The objects of a YAML or JSON file in order; a List is opened.

    Raises InvalidInput for a file that cannot be read, InvalidManifest for what is not YAML or not
    an object.
    """
    return [
        document
        for index, root in enumerate(_roots(file, _text(file)))
        if root is not None
        for document in _opened(file, index, root)
    ]


def of_nodes(nodes: Iterable[Node]) -> list[Document]:
    """The same for documents that `relume.config.yaml_source.documents` has read."""
    found: list[Document] = []
    for index, node in enumerate(nodes):
        data = plain(node)
        for document in _opened(node.file, index, data):
            below = _descend(node, document.inside)
            found.append(Document(node.file, index, document.data, document.inside, below))
    return found


def plain(node: Node) -> object:
    """The value of a node without its places."""
    if isinstance(node, Table):
        return {name: plain(value) for name, value in node.entries.items()}
    if isinstance(node, Items):
        return [plain(value) for value in node.nodes]
    assert isinstance(node, Scalar)
    return kubectl_yaml.scalar(node.content) if node.kind != "string" else node.content


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidManifest("not UTF-8 text", file=file, line=line, field="YAML") from error


def _roots(file: Path, text: str) -> Iterator[object]:
    if text.lstrip().startswith("{"):
        try:
            yield orjson.loads(text)
            return
        except orjson.JSONDecodeError:
            pass  # a flow mapping of YAML, or several documents
    if kubectl_yaml.too_deep(text):
        raise InvalidManifest("it is nested too deeply", file=file, line=1, field="YAML")
    quick = kubectl_yaml.load_all(text)
    if quick is not None:
        yield from quick
        return
    try:
        for root in yaml.load_all(text, Loader=kubectl_yaml.loader()):
            if "*" in text and not _is_small_tree(root, _DEEPEST, [_MOST_VALUES]):
                raise ValueError("aliases make it endless")
            yield root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or error.context or "not YAML"
        raise InvalidManifest(problem, file=file, line=line, field="YAML") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidManifest(f"not YAML: {error}", file=file, line=1, field="YAML") from error


def _is_small_tree(value: object, depth: int, left: list[int]) -> bool:
    """Whether the value can be walked: an alias may hold itself, or make a few lines billions."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return False
    below = value.values() if isinstance(value, Mapping) else value
    if isinstance(below, str) or not isinstance(below, Iterable):
        return True
    return all(_is_small_tree(one, depth - 1, left) for one in below)


def _opened(file: Path, index: int, root: object, inside: Steps = ()) -> Iterator[Document]:
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


def _descend(node: Node, path: Steps) -> Node:
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


def _line(file: Path, index: int, path: Steps) -> int:
    """The line of a value, by composing the file with places (seconds for tens of MB)."""
    try:
        roots = list(yaml.compose_all(_text(file), Loader=kubectl_yaml.loader()))
    except (yaml.YAMLError, InvalidInput):
        return 1
    if index >= len(roots) or roots[index] is None:
        return 1
    node: yaml.Node = roots[index]
    line = node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pair = next((p for p in node.value if p[0].value == step), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                break
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return int(line)


@dataclass(frozen=True, slots=True)
class Field:
    """A value with its path in the document. Absent and null are both `value is None`."""

    document: Document
    path: Steps
    value: object

    @classmethod
    def root(cls, document: Document) -> "Field":
        return cls(document, (), document.data)

    def wrong(self, message: str) -> InvalidManifest:
        """The error that this value is wrong."""
        return self.document.wrong(self.path, message)

    def get(self, *steps: Step) -> "Field":
        """The value below; absent where any step is."""
        field = self
        for step in steps:
            value = field._table().get(step) if field.value is not None else None
            field = Field(self.document, (*field.path, step), value)
        return field

    def need(self, *steps: Step) -> "Field":
        """The value below, which must be there."""
        field = self.get(*steps)
        if field.value is None:
            raise field.wrong("is missing")
        return field

    @property
    def there(self) -> bool:
        return self.value is not None

    def _table(self) -> Mapping[Step, object]:
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"must be a table of fields, not {_what(self.value)}")
        return self.value

    def entries(self) -> "Iterator[tuple[str, Field]]":
        """The fields of a table by name; nothing where it is absent."""
        if self.value is None:
            return
        for name, value in self._table().items():
            yield str(name), Field(self.document, (*self.path, str(name)), value)

    def raw_entries(self) -> Iterable[tuple[str, object]]:
        """The fields of a table as they were read, for what is too many to make Fields of."""
        if self.value is None:
            return ()
        return [(str(name), value) for name, value in self._table().items()]

    def below(self, name: str, value: object) -> "Field":
        """The field of a raw entry."""
        return Field(self.document, (*self.path, name), value)

    def items(self) -> "list[Field]":
        """The items of a list; empty where it is absent."""
        if self.value is None:
            return []
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise self.wrong(f"must be a list, not {_what(self.value)}")
        return [Field(self.document, (*self.path, i), v) for i, v in enumerate(self.value)]

    def text(self, default: str = "") -> str:
        """A string, `default` where it is absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self.wrong(f"must be a string, not {_what(self.value)}")
        return self.value

    def integer(self, default: int = 0, least: int = 0) -> int:
        """A whole number, `default` where it is absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.wrong(f"must be a whole number, not {_what(self.value)}")
        if self.value < least:
            raise self.wrong(f"must be at least {least}, not {self.value}")
        return self.value

    def boolean(self) -> bool:
        """True or false; false where it is absent."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.wrong(f"must be true or false, not {_what(self.value)}")
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
            raise self.wrong(f"must be a quantity, not {_what(self.value)}")
        try:
            return quantity.parse(str(self.value))
        except ValueError as error:
            raise self.wrong(str(error)) from error


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
