"""From the text of a file to documents with lines, or to the one thing that is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from relume.config.errors import InvalidInput, InvalidManifest
from relume.config.nodes import Items, Kind, Node, Scalar, Table

_LARGEST = 3 << 20  # bytes; the API server takes no larger request either
_MOST_NODES = 100_000  # in one document with its aliases written out
_DEEPEST = 64
_TAG = "tag:yaml.org,2002:"
_KINDS: dict[str, Kind] = {
    _TAG + "str": "string",
    _TAG + "timestamp": "string",  # JSON, which the API speaks, has no time
    _TAG + "value": "string",  # a lone "="
    _TAG + "int": "integer",
    _TAG + "float": "number",
    _TAG + "bool": "boolean",
    _TAG + "null": "null",
}


def documents(file: Path) -> Iterator[Node]:
    """The documents of `file` that hold anything, in order.

    Raises InvalidManifest for what is not YAML, a key that is there twice, a tag or merge key, and
    InvalidInput for a file that cannot be read.
    """
    text = _read(file)
    try:
        for root in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if root is not None and root.tag != _TAG + "null":
                yield _Tree(file).node(root, "", root.start_mark.line + 1, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        words = [error.problem or "", error.context or "" if not error.problem else ""]
        raise _not_yaml(file, line, " ".join(word for word in words if word)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = int(error.character)  # of a str; of bytes it would be a character
        raise _not_yaml(file, line, f"character U+{code:04X} is not allowed") from error
    except RecursionError as error:
        raise _not_yaml(file, 1, "it is nested too deeply") from error


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror or error}") from error
    if len(content) > _LARGEST:
        raise InvalidInput(f"{file}: larger than {_LARGEST >> 20} MiB, which no cluster takes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_yaml(file, line, "not UTF-8 text") from error


def _not_yaml(file: Path, line: int, message: str) -> InvalidManifest:
    return InvalidManifest(message, file=file, line=line, field="YAML")


@dataclass(slots=True)
class _Tree:
    """Builds one document's tree and counts it, so that aliases cannot make it huge."""

    file: Path
    size: int = 0

    def node(self, node: yaml.Node, path: str, line: int, depth: int) -> Node:
        self.size += 1
        if self.size > _MOST_NODES or depth > _DEEPEST:
            raise _not_yaml(self.file, line, "the document is too large or nested too deeply")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Table(self.file, line, path, self._entries(node, path, depth))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = tuple(
                self.node(item, f"{path}[{i}]", item.start_mark.line + 1, depth + 1)
                for i, item in enumerate(node.value)
            )
            return Items(self.file, line, path, items)
        return self._scalar(node, path, line)

    def _scalar(self, node: yaml.Node, path: str, line: int) -> Scalar:
        kind = _KINDS.get(node.tag) if isinstance(node, yaml.ScalarNode) else None
        if kind is None:
            raise _not_yaml(self.file, line, f"the tag {node.tag} has no meaning in a manifest")
        # YAML 1.1 reads 1:30 as 90; Kubernetes' YAML does not, and nobody who writes it means 90.
        if kind in ("integer", "number") and ":" in node.value:
            kind = "string"
        return Scalar(self.file, line, path, kind, node.value)

    def _entries(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _not_yaml(self.file, line, "a field's name must be a string")
            if key.tag == _TAG + "merge":
                raise _not_yaml(self.file, line, "merge keys (<<) are not read: write the fields")
            name = str(key.value)
            here = f"{path}.{name}" if path else name
            if name in entries:
                first = entries[name].line
                raise InvalidManifest(
                    f"is already set on line {first}", file=self.file, line=line, field=here
                )
            entries[name] = self.node(value, here, line, depth + 1)
        return entries
