"""The tokens of CESQL (CloudEvents SQL 1.0 §2), and the error that names one of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["name", "function", "integer", "string", "keyword", "symbol", "end"]

KEYWORDS = frozenset(["AND", "OR", "XOR", "NOT", "LIKE", "EXISTS", "IN", "TRUE", "FALSE"])

_TOKEN = re.compile(
    r"""
      (?P<space>  [ \t\r\n]+ )
    | (?P<word>   [A-Za-z0-9_]+ )
    | (?P<string> '[^'\\]*(?:\\.[^'\\]*)*' | "[^"\\]*(?:\\.[^"\\]*)*" )
    | (?P<symbol> <= | >= | <> | != | =(?!=) | [-+*/%<>(),] )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9]+")
_FUNCTION = re.compile(r"[A-Za-z][A-Za-z_]*")
_OF_OTHER_LANGUAGES = {"==": "=", "&&": "AND", "||": "OR", "!": "NOT"}
_LONGEST_QUOTE = 40  # characters


class ParseError(ValueError):
    """The text is not a CESQL expression. `position` is the place of the fault, counted from 0.

    `str()` begins with the same place counted from 1, as people count.
    """

    reason = "invalid-cesql"
    retryable = False

    def __init__(self, message: str, *, position: int) -> None:
        super().__init__(f"character {position + 1}: {message}")
        self.position = position


@dataclass(frozen=True, slots=True)
class Token:
    """One word or sign. `text` is a keyword in upper case, else as it is written."""

    kind: Kind
    text: str
    at: int
    end: int

    @property
    def words(self) -> str:
        """The token as an error names it."""
        return "the end of the expression" if self.kind == "end" else shown(self.text)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text` and one of kind `end`. Raises ParseError."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _unknown(text, at)
        if (kind := found.lastgroup) != "space":
            written = found[0]
            yield _word(written, at) if kind == "word" else _token(kind, written, at)
        at = found.end()
    yield Token("end", "", at, at)


def shown(text: str) -> str:
    """`text` as an error quotes it."""
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def _token(kind: str | None, written: str, at: int) -> Token:
    return Token("string" if kind == "string" else "symbol", written, at, at + len(written))


def _word(written: str, at: int) -> Token:
    end = at + len(written)
    if (keyword := written.upper()) in KEYWORDS:
        return Token("keyword", keyword, at, end)
    if written.isdigit():
        return Token("integer", written, at, end)
    if _NAME.fullmatch(written):
        return Token("name", written, at, end)
    if _FUNCTION.fullmatch(written):
        return Token("function", written, at, end)
    raise ParseError(f"{shown(written)} is neither an attribute nor a function", position=at)


def _unknown(text: str, at: int) -> ParseError:
    if text[at] in "'\"":
        return ParseError(f"the string {shown(text[at:])} has no end", position=at)
    for theirs, ours in _OF_OTHER_LANGUAGES.items():
        if text.startswith(theirs, at):
            return ParseError(f"unexpected {theirs}: write {ours}", position=at)
    return ParseError(f"unexpected {text[at]}", position=at)
