"""Where the parts of a JSON document lie in its text.

A parser gives values and forgets how they were written. This walks a document that a parser has
accepted already, so it refuses nothing; on any other text its answers mean nothing.
"""

import json
import re
from dataclasses import dataclass

# Mostly the next quote ends a string; where a backslash stands before it, look at every escape.
_INSIDE = rb'(?:[^"]*+(?=")(?<!\\)|[^"\\]*+(?:\\.[^"\\]*+)*+)'
_STRING = b'"' + _INSIDE + b'"'
_GAP = re.compile(rb"[\s,\[]*+")
# A member's name, and its value unless that is an object or an array.
_MEMBER = re.compile(rb'[\s,{]*+"(' + _INSIDE + rb')"\s*+:\s*+(' + _STRING + rb"|[^\s,{}\[\]]++)?")
_OBJECT_END = re.compile(rb"[\s{]*+}")
# Up to the next bracket that is not inside of a string; what is nested less than four deep (a chat,
# a matrix) is passed over in one go.
_FLAT = rb'[^"\[\]{}]++|' + _STRING
_NESTED = _FLAT
for _ in range(3):
    _NESTED = _FLAT + rb"|[\[{](?:" + _NESTED + rb")*+[\]}]"
_TO_BRACKET = re.compile(b"(?:" + _NESTED + rb")*+[\[\]{}]")
_WHOLE = re.compile(_NESTED)


@dataclass(frozen=True, slots=True)
class Members:
    """How many members an object has, duplicates too, its last `data` as written, and its end."""

    count: int
    data: bytes
    end: int


def members_at(body: bytes, at: int) -> Members:
    """The members of the object whose `{` is the next character from `at` that is no space."""
    count, data = 0, b""
    while member := _MEMBER.match(body, at):
        count += 1
        start, at = member.span(2)
        if start < 0:
            start = member.end()
            at = _closing_bracket(body, start)
        name = member[1]
        if name == b"data" or (b"\\" in name and json.loads(b'"%b"' % name) == "data"):
            data = body[start:at]
    end = _OBJECT_END.match(body, at)
    return Members(count, data, end.end() if end else at)


def next_element(body: bytes, at: int) -> int:
    """Where the array's next element begins: after its `[`, or after the element that ends here."""
    gap = _GAP.match(body, at)
    return gap.end() if gap else at


def _closing_bracket(body: bytes, at: int) -> int:
    if whole := _WHOLE.match(body, at):
        return whole.end()
    depth = 0
    while found := _TO_BRACKET.match(body, at):
        at = found.end()
        depth += 1 if body[at - 1] in b"[{" else -1
        if depth == 0:
            break
    return at
