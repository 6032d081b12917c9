"""The values of a YAML or JSON file, and the line on which a value stands.

`kubectl get resourceslices -o yaml` of 8,000 GPUs is 6 MB, for which PyYAML's loader takes some
10 s, most of it for building a tree of nodes. Building the values from the parser's events takes
1 s. What is rare in manifests (aliases, tags, merge keys, keys that are not strings) is
left to the loader.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import orjson
import yaml

from relume.base.errors import InvalidInput
from relume.config.yaml_scalars import MERGE, TAG, ServerResolver, key_of, tag_of, value_of
from relume.config.yaml_source import not_yaml, text_of

FieldPath: TypeAlias = tuple[str | int, ...]
"""The way from the root of a document to a value: names of fields and positions in lists."""

_T = TypeVar("_T")
_LARGEST = 256 << 20  # bytes; the devices of 8,000 GPUs are 6 MB
_DEEPEST = 500  # libyaml's composer is recursive: deeper nesting could end the process
_DEEPEST_ALIASED = 64
_MOST_VALUES = 1_000_000  # of one document that has aliases, with the aliases written out


if TYPE_CHECKING:
    _Loader = yaml.SafeLoader
else:
    _Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class KubernetesLoader(ServerResolver, _Loader):
    """Reads all of YAML; unquoted words mean what they mean to an API server."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A table by the names that its keys have in JSON; of a name that is there twice, the last.

        The fields of a merge key count as written in its place; of several tables that it names
        the first has the say (goyaml.v2/decode.go). Raises yaml.MarkedYAMLError for a key that is
        no scalar, or null, and for a merge key of anything but tables.
        """
        known: dict[yaml.Node, dict[Hashable, Any]] = self.__dict__.setdefault("_tables", {})
        if node in known:
            return known[node]
        table: dict[Hashable, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a field's name must be a string", key)
            if key.tag != MERGE:
                table[_of_node(key_of, key)] = self.construct_object(value, deep)
                continue
            for merged in reversed(
                value.value if isinstance(value, yaml.SequenceNode) else [value]
            ):
                if not isinstance(merged, yaml.MappingNode):
                    raise _wrong("a merge key (<<) takes a table, or a list of them", merged)
                table |= self.construct_mapping(merged, deep=True)
        known[node] = table
        return table


def _wrong(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _of_node(read: Callable[[yaml.ScalarNode], _T], node: yaml.ScalarNode) -> _T:
    """What `read` makes of a node; what it refuses is an error at the node's line."""
    try:
        return read(node)
    except ValueError as error:
        raise _wrong(str(error), node) from error


def _construct(_: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    return _of_node(value_of, node)


def _of_word(event: yaml.ScalarEvent) -> object:
    mark = cast("yaml.Mark", event.start_mark)
    return _of_node(value_of, yaml.ScalarNode(tag_of(event.value), event.value, mark))


for _name in ("int", "float", "timestamp", "null", "bool"):
    KubernetesLoader.add_constructor(TAG + _name, _construct)


def values(file: Path) -> Iterator[object]:
    """The value of each document of a file.

    Raises InvalidInput for a file that cannot be read, InvalidManifest for what is not YAML.
    """
    text = text_of(file, _LARGEST)
    if text.lstrip().startswith("{"):
        try:
            yield orjson.loads(text)
            return
        except orjson.JSONDecodeError:
            pass  # a flow mapping of YAML, or several documents
    try:
        quick = from_events(text)
        if quick is not None:
            yield from quick
            return
        for root in yaml.load_all(text, Loader=KubernetesLoader):
            if "*" in text and not _is_small_tree(root, _DEEPEST_ALIASED, [_MOST_VALUES]):
                raise not_yaml(file, 1, "not YAML: aliases make it endless")
            yield root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise not_yaml(file, line, error.problem or error.context or "not YAML") from error
    except _TooDeep as error:
        raise not_yaml(file, 1, "it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise not_yaml(file, 1, f"not YAML: {error}") from error


def line_of(file: Path, index: int, path: FieldPath) -> int:
    """The line of the value at `path` of document `index`, or of the nearest value above it.

    The file is read a second time (seconds for tens of MB), so ask only when something is wrong.
    """
    try:
        roots = list(yaml.compose_all(text_of(file, _LARGEST), Loader=KubernetesLoader))
    except (yaml.YAMLError, InvalidInput):
        return 1
    if index >= len(roots) or roots[index] is None:
        return 1
    node: yaml.Node = roots[index]
    line = node.start_mark.line
    for step in path:
        below = None
        if isinstance(node, yaml.MappingNode):
            below = next((pair for pair in node.value if pair[0].value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            below = next(((item, item) for item in node.value[step : step + 1]), None)
        if below is None:
            break
        line, node = below[0].start_mark.line, below[1]
    return int(line) + 1


class _TooDeep(Exception):
    """The text is nested so deeply that reading it in full could end the process."""


def from_events(text: str) -> list[object] | None:
    """The value of each document, or None where only the loader can tell.

    Raises yaml.YAMLError for what is not YAML, also where the loader is needed for the values.
    """
    known: dict[object, object] = {}
    here: list[object] = []  # the children of the innermost open table or list; keys are children
    outer: list[list[object]] = []
    rare = False
    for event in yaml.parse(text, Loader=KubernetesLoader):
        if isinstance(event, yaml.ScalarEvent):
            value: object = event.value
            rare = rare or event.tag is not None
            if event.implicit[0]:  # unquoted
                if value not in known:
                    rare = rare or event.value == "<<"
                    known[event.value] = None if rare else _of_word(event)
                value = known[event.value]
            here.append(value)
        elif isinstance(event, yaml.CollectionStartEvent):
            rare = rare or event.tag is not None
            outer.append(here)
            here = []
            if len(outer) > _DEEPEST:
                raise _TooDeep
        elif isinstance(event, yaml.SequenceEndEvent):
            outer[-1].append(here)
            here = outer.pop()
        elif isinstance(event, yaml.MappingEndEvent):
            table = dict(zip(map(str, here[::2]), here[1::2], strict=True))
            rare = rare or any(type(key) is not str for key in here[::2])
            outer[-1].append(table)
            here = outer.pop()
        elif isinstance(event, yaml.AliasEvent):
            rare = True
            here.append(None)
    return None if rare else here


def _is_small_tree(value: object, depth: int, left: list[int]) -> bool:
    """Whether the value can be walked: an alias may hold itself, or make a few lines billions."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return False
    below = value.values() if isinstance(value, Mapping) else value
    if isinstance(below, str) or not isinstance(below, Iterable):
        return True
    return all(_is_small_tree(one, depth - 1, left) for one in below)
