"""From the text of a file to documents with lines, or to the one thing that is wrong with it."""

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from relume.base import files
from relume.base.errors import InvalidInput, InvalidManifest, one_line
from relume.base.vocabulary import JsonValue
from relume.config.nodes import Items, Kind, Node, Scalar, Table
from relume.config.yaml_scalars import MERGE, TAG, ServerResolver, Word, key_of, value_of

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGEST = 3 << 20  # bytes of a document; the API server takes no larger request either
_LARGEST_FILE = 16 << 20  # bytes of all documents in a file
_MOST_NODES = 100_000  # in one document with its aliases written out
_DEEPEST = 64
_DEEPEST_TEXT = 500  # libyaml's composer is recursive: deeper nesting could end the process
_NO_MORE: Any = object()
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCALARS = {TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp")}


class _Loader(ServerResolver, _LOADER):  # type: ignore[misc, valid-type]
    """Composes documents with places; unquoted words mean what they mean to an API server."""


class _SlowLoader(ServerResolver, yaml.SafeLoader):
    """The same, for escapes that libyaml refuses: JSON writes one character as two halves."""


# Half a character (U+D800 to U+DFFF), or a number that no character has.
_HARD_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]|\\U(?!000|0010)")


def _loader_for(text: str) -> type[yaml.SafeLoader]:
    return _SlowLoader if _HARD_ESCAPE.search(text) else _Loader


Repeated = Callable[[InvalidManifest], None]


def _refuse(repeated: InvalidManifest) -> None:
    raise repeated


def documents(file: Path, repeated: Repeated = _refuse) -> Iterator[Node]:
    """The documents of `file` that hold anything, in order; of a `kind: List` its items.

    A merge key (`<<`) means the fields that it names, as for an API server: each keeps the line on
    which it was written, and a field that stands after the merge key wins over it. `repeated` is
    called for every key that is there twice; if it returns, the last value counts.

    Raises InvalidManifest for what is not YAML, a key that is there twice, a tag, and InvalidInput
    for a file that cannot be read.
    """
    text = text_of(file, _LARGEST_FILE, _LARGEST)
    try:
        for root in _roots(file, text):
            if root is not None and root.tag != TAG + "null":
                with _no_collections():
                    tree = _Tree(file, repeated, json=text.lstrip().startswith("{"))
                    items = [
                        tree.node(item, "", item.start_mark.line + 1, 0)
                        for item in tree.listed(root, 0)
                    ]
                yield from items
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        last = text.count("\n") + 1  # libyaml may name the line after it
        line = min(mark.line + 1, last) if mark else 1
        words = [error.problem or "", error.context or "" if not error.problem else ""]
        raise not_yaml(file, line, " ".join(word for word in words if word)) from error
    except yaml.reader.ReaderError as error:
        line = _line_of_character(text, error.position)
        code = int(error.character)  # of a str; of bytes it would be a character
        raise not_yaml(file, line, f"character U+{code:04X} is not allowed") from error
    except RecursionError as error:
        raise not_yaml(file, 1, "it is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # of "\UFFFFFFFF"
        raise not_yaml(file, 1, "an escape names no character") from error


def _roots(file: Path, text: str) -> Iterator[yaml.Node | None]:
    """Each document as YAML's nodes. Raises InvalidManifest for one that is nested too deeply."""
    deep = _too_deep(text)
    found: Iterator[Any] = yaml.compose_all(text, Loader=_loader_for(text))
    for number in count():
        if deep is not None and number == deep[0]:
            raise not_yaml(file, deep[1], "it is nested too deeply")
        with _no_collections():
            root = next(found, _NO_MORE)
        if root is _NO_MORE:
            return
        yield root


def _too_deep(text: str) -> tuple[int, int] | None:
    """The number of the first document that must not be composed, and the line of the place."""
    number, depth = -1, 0
    try:
        for event in yaml.parse(text, Loader=_loader_for(text)):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _DEEPEST_TEXT:
                    return number, getattr(event.start_mark, "line", 0) + 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.DocumentStartEvent):
                number += 1
    except (yaml.YAMLError, ValueError, OverflowError):
        pass  # the composer comes to the same place, and has read the documents before it
    return None


@contextmanager
def _no_collections() -> Iterator[None]:
    """No garbage collection inside: a collection would walk the whole growing tree for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _line_of_character(text: str, position: int) -> int:
    """The line of a position that a reader names: libyaml counts bytes, PyYAML characters."""
    if not issubclass(_loader_for(text), getattr(yaml, "CSafeLoader", ())):
        return text.count("\n", 0, position) + 1
    return text.encode().count(b"\n", 0, position) + 1


def plain(node: Node) -> JsonValue:
    """The value of `node` without its places; a field that is null is absent, as for the API."""
    if isinstance(node, Table):
        return {name: plain(value) for name, value in node}
    if isinstance(node, Items):
        return [plain(item) for item in node.nodes]
    assert isinstance(node, Scalar)
    if node.kind == "string":
        return node.content
    if node.kind == "boolean":
        return node.boolean()
    if node.kind == "null":
        return None
    return int(node.content) if node.kind == "integer" else float(node.content)


def _as_json(value: Word) -> tuple[Kind, str]:
    """The kind of a scalar, and its text in JSON, less the quotes of a string."""
    if value is None:
        return "null", ""
    if isinstance(value, bool):
        return "boolean", "true" if value else "false"
    if isinstance(value, str):
        return "string", value
    return "integer" if isinstance(value, int) else "number", repr(value)


def _by_name(node: yaml.Node) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def text_of(file: Path, most: int, most_each: int | None = None) -> str:
    """The text of a file of at most `most` bytes, `most_each` in each document.

    Raises InvalidInput where it cannot be read, and InvalidManifest where it is not UTF-8.
    """
    try:
        content = files.content(file, most)
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror or error}") from error
    if len(content) > most:
        raise InvalidInput(f"{file}: larger than {most >> 20} MiB; split it")
    if most_each and any(len(document) > most_each for document in content.split(b"\n---")):
        message = f"{file}: a document is larger than {most_each >> 20} MiB, which no cluster takes"
        raise InvalidInput(message)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise not_yaml(file, line, "not UTF-8 text") from error


def not_yaml(file: Path, line: int, message: str) -> InvalidManifest:
    """The error that the text of a file cannot be read as YAML, from this line on."""
    return InvalidManifest(message, file=file, line=line, field="YAML")


@dataclass(slots=True)
class _Tree:
    """Builds one document's tree and counts it, so that aliases cannot make it huge.

    `json`: the file may be JSON, in which two escapes make one character above U+FFFF.
    """

    file: Path
    repeated: Repeated
    json: bool
    size: int = 0

    def listed(self, root: yaml.Node, depth: int) -> Iterator[yaml.Node]:
        """The items of a `kind: List` and of Lists in it; any other document is itself."""
        self._count(root.start_mark.line + 1, depth)
        fields = _by_name(root)
        kind, items = fields.get("kind"), fields.get("items")
        if str(getattr(kind, "value", "")).endswith("List") and isinstance(
            items, yaml.SequenceNode
        ):
            for item in items.value:
                yield from self.listed(item, depth + 1)
        else:
            yield root

    def _count(self, line: int, depth: int) -> None:
        self.size += 1
        if self.size > _MOST_NODES or depth > _DEEPEST:
            raise not_yaml(self.file, line, "the document is too large or nested too deeply")

    def node(self, node: yaml.Node, path: str, line: int, depth: int) -> Node:
        self._count(line, depth)
        if isinstance(node, yaml.MappingNode) and node.tag == TAG + "map":
            return Table(self.file, line, path, self._entries(node, path, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == TAG + "seq":
            items = tuple(
                self.node(item, f"{path}[{i}]", item.start_mark.line + 1, depth + 1)
                for i, item in enumerate(node.value)
            )
            return Items(self.file, line, path, items)
        return self._scalar(node, path, line)

    def _scalar(self, node: yaml.Node, path: str, line: int) -> Scalar:
        self._check_text(node, line)
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            raise not_yaml(self.file, line, f"the tag {node.tag} has no meaning in a manifest")
        try:
            value = value_of(node)
        except ValueError as error:
            raise not_yaml(self.file, line, str(error)) from error
        kind, content = _as_json(value)
        return Scalar(self.file, line, path, kind, content, str(node.value))

    def _check_text(self, node: yaml.Node, line: int) -> None:
        """Refuse what an escape such as "\\uD800" makes: half a character, as Kubernetes does."""
        value = node.value
        if not isinstance(value, str) or value.isascii() or not _SURROGATE.search(value):
            return
        if self.json:
            node.value = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if _SURROGATE.search(node.value):
            raise not_yaml(self.file, line, "an escape names half a character (U+D800 to U+DFFF)")

    def _entries(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        """The fields of one table; those of a merge key count as written in its place."""
        found: dict[str, Node] = {}
        own: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise not_yaml(self.file, line, "a field's name must be a string")
            if key.tag == MERGE:
                found |= self._merged(value, path, depth)
                continue
            self._check_text(key, line)
            name = self._name(key, line)
            shown = (name if name.isprintable() else one_line(name)) or '""'
            here = f"{path}.{shown}" if path else shown
            if name in own:
                error = InvalidManifest(
                    f"is already set on line {own[name]}", file=self.file, line=line, field=here
                )
                self.repeated(error)
            own[name] = line
            found[name] = self.node(value, here, line, depth + 1)
        return found

    def _name(self, key: yaml.ScalarNode, line: int) -> str:
        if key.tag not in _SCALARS:
            raise not_yaml(self.file, line, f"the tag {key.tag} has no meaning in a manifest")
        try:
            return key_of(key)
        except ValueError as error:
            raise not_yaml(self.file, line, str(error)) from error

    def _merged(self, value: yaml.Node, path: str, depth: int) -> dict[str, Node]:
        """The fields that a merge key brings; of several tables the first has the say."""
        line = value.start_mark.line + 1
        tables = value.value if isinstance(value, yaml.SequenceNode) else [value]
        self._count(line, depth)
        found: dict[str, Node] = {}
        for table in reversed(tables):
            if not isinstance(table, yaml.MappingNode):
                raise not_yaml(self.file, line, "a merge key (<<) takes a table, or a list of them")
            found |= self._entries(table, path, depth + 1)
        return found
