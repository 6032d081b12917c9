"""A quick reader for the block YAML that kubectl prints, and the loader for everything else.

`kubectl get resourceslices -o yaml` of 8,000 GPUs is 10 MB, for which libyaml under PyYAML takes
some 10 s. That text uses little of YAML: block tables and lists, one value per line. `load_all`
reads exactly this and gives None for anything more, which the full loader then reads.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

import yaml

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?|\.[0-9]+(?:[eE][-+][0-9]+)?")
_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_LINE = re.compile(r"( *)((?:- +)*)(?:([A-Za-z0-9_./-]+):(?: +|$))?(.*)")
_PLAIN = re.compile(r"[A-Za-z0-9_./+(~-](?:[^#:\\]|:(?=\S)|(?<=\S)#)*")
_DOUBLE = re.compile(r'"([^"\\]*)"')
_SINGLE = re.compile(r"'([^']*)'")


class _NotQuick(Exception):
    """The text needs the full loader."""


_DEEPEST = 500
_BRACKETS = re.compile(r"[\[\]{}]")
_NESTED_MARKS = re.compile(r"(?:[-?:][ \t]+){500}")


def scalar(text: str) -> Value:
    """An unquoted value as Kubernetes reads it: no octal, no base 60, no time."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) < 20 else float(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def load_all(text: str) -> "list[Value] | None":
    """Every document of `text`, or None when it holds more of YAML than is read here."""
    try:
        return [_Reader(chunk).document() for chunk in _documents(text)]
    except _NotQuick:
        return None


def loader() -> type[yaml.SafeLoader]:
    """A full YAML loader that reads values as `scalar` does."""
    return _LOADER


def too_deep(text: str) -> bool:
    """Whether the text may be nested so deeply that libyaml's recursion ends the process.

    Brackets in strings count, too: a text that seems to be, without being it, has 500 of them more
    open than closed.
    """
    if _NESTED_MARKS.search(text):
        return True
    depth = 0
    for found in _BRACKETS.finditer(text):
        depth = depth + 1 if found[0] in "[{" else max(depth - 1, 0)
        if depth > _DEEPEST:
            return True
    return False


def _documents(text: str) -> Iterator[list[str]]:
    chunk: list[str] = []
    marked = False
    for line in text.split("\n"):
        if not line.startswith(("---", "...", "%")):
            chunk.append(line)
        elif line.rstrip() != "---":
            raise _NotQuick
        else:
            if marked or _holds_something(chunk):
                yield chunk
            chunk, marked = [], True
    if marked or _holds_something(chunk):
        yield chunk


def _holds_something(lines: list[str]) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)


Token: TypeAlias = "tuple[int, tuple[int, ...], str | None, Value, bool]"
"""Column of the first mark, columns of its dashes, key, value, and whether a value is there."""


class _Reader:
    """One document by recursive descent over its lines."""

    def __init__(self, lines: list[str]) -> None:
        self.tokens = _tokens(lines)
        self.at = 0

    def document(self) -> Value:
        if not self.tokens:
            return None
        value = self._block(self.tokens[0][0])
        if self.at != len(self.tokens):
            raise _NotQuick
        return value

    def _block(self, column: int) -> Value:
        """The value that starts at the present token, whose marks are all at `column`."""
        first = self.tokens[self.at]
        if first[1] and first[1][0] == column:
            return self._items(column)
        if first[2] is None:
            self.at += 1
            return first[3]
        return self._table(column)

    def _items(self, column: int) -> Value:
        found: list[Value] = []
        tokens = self.tokens
        while self.at < len(tokens):
            start, dashes, key, value, filled = tokens[self.at]
            if start != column or not dashes:
                break
            inner = dashes[1] if len(dashes) > 2 else dashes[-1]
            # Take the dash off this line and read what follows as a block of its own.
            if len(dashes) > 2 or key is not None or filled:
                rest = dashes[1:] if len(dashes) > 2 else ()
                tokens[self.at] = (inner, rest, key, value, filled)
                found.append(self._block(inner))
            else:
                raise _NotQuick  # a lone dash
        if self.at < len(tokens) and tokens[self.at][0] > column:
            raise _NotQuick
        return found

    def _table(self, column: int) -> Value:
        found: dict[str, Value] = {}
        tokens, end = self.tokens, len(self.tokens)
        while self.at < end:
            start, dashes, key, value, filled = tokens[self.at]
            if start != column or dashes:
                break
            if key is None or key in found:
                raise _NotQuick
            self.at += 1
            if not filled and self.at < end:
                below = tokens[self.at]
                if below[0] > column or (below[0] == column and below[1]):
                    value = self._block(below[0])
            found[key] = value
        if self.at < end and tokens[self.at][0] > column:
            raise _NotQuick
        return found


def _tokens(lines: list[str]) -> list[Token]:
    known: dict[str, Token] = {}
    found: list[Token] = []
    for line in lines:
        token = known.get(line)
        if token is None:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            token = known[line] = _token(line)
        found.append(token)
    return found


def _token(line: str) -> Token:
    parts = _LINE.fullmatch(line)
    if parts is None or "\t" in line:
        raise _NotQuick
    spaces, dashes, key, rest = parts[1], parts[2], parts[3], parts[4].rstrip()
    if rest == "-" or rest.startswith("- "):
        raise _NotQuick
    column = len(spaces)
    if key is not None and (key in _WORDS or _INTEGER.fullmatch(key) or _FLOAT.fullmatch(key)):
        raise _NotQuick  # a key that YAML does not read as a string
    columns = [column + i for i, mark in enumerate(dashes) if mark == "-"]
    marks = (*columns, column + len(dashes)) if columns else ()
    return column, marks, key, _value(rest), rest != ""


def _value(rest: str) -> Value:
    if rest == "":
        return None
    if rest in ("{}", "[]"):
        return {} if rest == "{}" else []
    if quoted := _DOUBLE.fullmatch(rest) or _SINGLE.fullmatch(rest):
        return quoted[1]
    if not _PLAIN.fullmatch(rest) or rest.endswith(":"):
        raise _NotQuick
    return scalar(rest)


def _construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    return scalar(str(loader.construct_scalar(node)))


_LOADER: type[yaml.SafeLoader] = type(
    "KubernetesLoader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {}
)
for _tag in ("int", "float", "timestamp", "null", "bool"):
    _LOADER.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct)
