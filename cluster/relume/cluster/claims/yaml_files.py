"""The values of a YAML or JSON file, and the line on which a value stands.

`kubectl get resourceslices -o yaml` of 8,000 GPUs is 6 MB, for which PyYAML's loader takes some
10 s, most of it for building a tree of nodes. Building the values from the parser's events takes
1 s. What is rare in manifests (aliases, tags, merge keys, keys that are not strings) is
left to the loader.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import orjson
import yaml

from relume.base import files
from relume.base.errors import InvalidInput, InvalidManifest

FieldPath: TypeAlias = tuple[str | int, ...]
"""The way from the root of a document to a value: names of fields and positions in lists."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_LARGEST = 256 << 20  # bytes; the devices of 8,000 GPUs are 6 MB
_DEEPEST = 500  # libyaml's composer is recursive: deeper nesting could end the process
_DEEPEST_ALIASED = 64
_MOST_VALUES = 1_000_000  # of one document that has aliases, with the aliases written out


KubernetesLoader: type[yaml.SafeLoader] = type(
    "KubernetesLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {}
)
"""Reads all of YAML; unquoted values mean what `scalar` says."""


def scalar(text: str) -> object:
    """An unquoted value as Kubernetes reads it: no octal, no base 60, no time."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 20 else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    return scalar(str(loader.construct_scalar(node)))


for _tag in ("int", "float", "timestamp", "null", "bool"):
    KubernetesLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)


def values(file: Path) -> Iterator[object]:
    """The value of each document of a file.

    Raises InvalidInput for a file that cannot be read, InvalidManifest for what is not YAML.
    """
    text = _text(file)
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
                raise _not_yaml(file, 1, "not YAML: aliases make it endless")
            yield root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _not_yaml(file, line, error.problem or error.context or "not YAML") from error
    except _TooDeep as error:
        raise _not_yaml(file, 1, "it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_yaml(file, 1, f"not YAML: {error}") from error


def line_of(file: Path, index: int, path: FieldPath) -> int:
    """The line of the value at `path` of document `index`, or of the nearest value above it.

    The file is read a second time (seconds for tens of MB), so ask only when something is wrong.
    """
    try:
        roots = list(yaml.compose_all(_text(file), Loader=KubernetesLoader))
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
            rare = rare or event.tag is not None or value in ("<<", "=")
            if event.implicit[0]:  # unquoted
                if value not in known:
                    known[event.value] = scalar(event.value)
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


def _text(file: Path) -> str:
    try:
        content = files.content(file, _LARGEST)
        if len(content) > _LARGEST:
            raise InvalidInput(f"{file}: larger than {_LARGEST >> 20} MiB; split it")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_yaml(file, line, "not UTF-8 text") from error


def _not_yaml(file: Path, line: int, message: str) -> InvalidManifest:
    return InvalidManifest(message, file=file, line=line, field="YAML")


def _is_small_tree(value: object, depth: int, left: list[int]) -> bool:
    """Whether the value can be walked: an alias may hold itself, or make a few lines billions."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        return False
    below = value.values() if isinstance(value, Mapping) else value
    if isinstance(below, str) or not isinstance(below, Iterable):
        return True
    return all(_is_small_tree(one, depth - 1, left) for one in below)
