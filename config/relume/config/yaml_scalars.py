"""What an unquoted word of YAML means to an API server: true or false, a number, nothing, or text.

The API server and kubectl read YAML with sigs.k8s.io/yaml and then write it as JSON. So `y`, `on`
and `no` are booleans, `010` and `0o17` are octal, `0x1F` is hexadecimal, `_` between digits is left
out, `1e3` and `4.0` become the whole numbers 1000 and 4, and a date or `1:30` is text.
Source: kubernetes-sigs/yaml goyaml.v2/resolve.go and yaml.go (convertToJSONableObject).

Everything of Relume that reads YAML reads its words here.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache

import yaml

TAG = "tag:yaml.org,2002:"
_STRING, _INTEGER, _NUMBER = TAG + "str", TAG + "int", TAG + "float"
_BOOLEAN, _NULL = TAG + "bool", TAG + "null"
MERGE = TAG + "merge"

Word = None | bool | int | float | str

_WORDS: Mapping[str, tuple[str, Word]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), (_NULL, None)),
    **dict.fromkeys(
        ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), (_BOOLEAN, True)
    ),
    **dict.fromkeys(
        ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"),
        (_BOOLEAN, False),
    ),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), (_NUMBER, math.nan)),
    **{
        sign + word: (_NUMBER, -math.inf if sign == "-" else math.inf)
        for sign in ("", "+", "-")
        for word in (".inf", ".Inf", ".INF")
    },
    "<<": (MERGE, "<<"),
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_WHOLE = re.compile(
    r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII
)
_MOST_EXACT = 1e21  # Go writes larger floats with an exponent, which is no whole number any more
_MOST_DIGITS = 1000  # int() refuses very long digit strings


def tag_of(text: str) -> str:
    """The tag that an unquoted `text` has."""
    return _read(text)[0]


def value_of(node: yaml.ScalarNode) -> Word:
    """The value of a scalar in the JSON that reaches the API server.

    Raises ValueError for a tag that does not fit the text, and for a number that JSON has not.
    """
    if node.tag in (_STRING, TAG + "timestamp"):
        return str(node.value)
    tag, value = _read(node.value)
    if tag != node.tag and (node.tag, tag) != (_NUMBER, _INTEGER):
        raise ValueError(f"cannot decode {_short(tag)} `{node.value}` as a {_short(node.tag)}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"the number {node.value:.40} has no place in JSON")
        if value.is_integer() and abs(value) < _MOST_EXACT:
            return int(value)
    return value


def key_of(node: yaml.ScalarNode) -> str:
    """The name of a field: a key that is a number or a boolean is written as JSON writes it.

    Raises ValueError for a key that is null.
    """
    value = value_of(node)
    if value is None:
        raise ValueError("a field's name must be a string, not null")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if node.tag == _NUMBER else str(value)


class ServerResolver:
    """Gives unquoted words their tags as the API server does.

    Stands before a loader of PyYAML, so that words are read so, or before a dumper, so that a text
    is quoted which the server would read as something else (PyYAML itself writes `n` and `1e3`).
    """

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that has none in the text."""
        if kind is yaml.ScalarNode and implicit[0]:
            return tag_of(value)
        return str(super().resolve(kind, value, implicit))  # type: ignore[misc]


class ServerDumper(ServerResolver, yaml.SafeDumper):
    """Writes YAML that an API server reads as it was meant."""


def _short(tag: str) -> str:
    return tag.replace(TAG, "!!")


def _read(text: str) -> tuple[str, Word]:
    """The tag and value of an unquoted word."""
    if text and text[0] not in "+-0123456789yYnNtTfFoO~.<":
        return _STRING, text
    found = _WORDS.get(text)
    if found is not None:
        return found
    return _number(text) or (_STRING, text)


@lru_cache(maxsize=4096)
def _number(text: str) -> tuple[str, Word] | None:
    bare = text if text[0] == "." else text.replace("_", "")
    whole = _WHOLE.fullmatch(bare)
    if whole is not None:
        sign, *digits = whole.groups()
        base, written = next(pair for pair in zip((16, 2, 8, 10), digits, strict=True) if pair[1])
        return _INTEGER, int(f"{sign}{written}", base) if len(bare) < _MOST_DIGITS else math.inf
    if _FLOAT.fullmatch(bare) and math.isfinite(number := float(bare)):
        return _NUMBER, number
    return None
