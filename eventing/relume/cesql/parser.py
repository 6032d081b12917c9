"""Parse CESQL, the CloudEvents SQL Expression Language 1.0 (cloudevents/spec `cesql/spec.md`).

Where the prose of the specification and its grammar file differ, the grammar decides, because the
engines that Knative's Brokers use are made from it: keywords and attributes in any case, a NOT or
a minus that binds tighter than LIKE (`NOT a = b` is `(NOT a) = b`), and a chain of AND, OR and XOR
that groups from the right (`a OR b AND c` is `a OR (b AND c)`, `a AND b OR c` is `a AND (b OR c)`).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import cast

from relume.cesql.tree import (
    Arithmetic,
    Attribute,
    Calculate,
    Call,
    Compare,
    Comparison,
    Connective,
    Exists,
    Expression,
    In,
    Like,
    Literal,
    Logic,
    Negate,
    Not,
    inside,
)
from relume.cesql.values import LEAST, MOST

MOST_NESTED = 64

_LOGIC = ("AND", "OR", "XOR")
_POSTFIX = 4
_COMPARISON = 1
_POWERS = (
    dict.fromkeys(("LIKE", "IN", "NOT"), _POSTFIX)
    | dict.fromkeys(("*", "/", "%"), 3)
    | dict.fromkeys(("+", "-"), 2)
    | dict.fromkeys(("=", "!=", "<>", "<", "<=", ">", ">="), _COMPARISON)
)

TokenKind = OneOf["name", "function", "integer", "string", "keyword", "symbol", "end"]

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

    kind: TokenKind
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


def parse(text: str) -> Expression:
    """The syntax tree of `text`.

    Raises ParseError at the first token that does not fit, and where the expression is nested
    deeper than MOST_NESTED levels; nothing else, whatever the text.
    """
    return _Parser(text).whole()


class _Parser:
    """Pratt: each operator has a power, and takes what binds tighter than itself."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(tokens(text))
        self._next = 0
        self._nested = 0

    def whole(self) -> Expression:
        expression = self._logic()
        if self._token.kind != "end":
            raise self._unexpected("an operator")
        _check_depth(expression)
        return expression

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token
        self._next += 1
        return token

    def _is(self, *texts: str) -> bool:
        return self._token.kind in ("keyword", "symbol") and self._token.text in texts

    def _expect(self, symbol: str, wanted: str) -> Token:
        if not self._is(symbol):
            raise self._unexpected(wanted)
        return self._take()

    def _unexpected(self, wanted: str) -> ParseError:
        token, before = self._token, self._tokens[self._next - 1]
        hint = ""
        if token.kind == before.kind == "string" and token.at == before.end:
            hint = "; a quote inside a string is written \\" + token.text[0]
        message = f"unexpected {token.words}, expected {wanted}{hint}"
        return ParseError(message, position=token.at)

    def _logic(self) -> Expression:
        begins, operands, operators = [self._token.at], [self._infix(_COMPARISON)], list[Token]()
        ends = [self._tokens[self._next - 1].end]
        while self._is(*_LOGIC):
            operators.append(self._take())
            begins.append(self._token.at)
            operands.append(self._infix(_COMPARISON))
            ends.append(self._tokens[self._next - 1].end)
        # Grouped from the right; a run of one operator is one node, so that chains stay flat.
        node, last = operands[-1], len(operators)
        while last > 0:
            first = last - 1
            while first > 0 and operators[first - 1].text == operators[last - 1].text:
                first -= 1
            texts = [self._text[begins[i] : ends[i]] for i in range(first, last)]
            rest = self._text[begins[last] : ends[-1]]
            node = Logic(
                cast(Connective, operators[first].text),
                (*operands[first:last], node),
                (*texts, rest),
                operators[first].at,
            )
            last = first
        return node

    def _infix(self, least: int) -> Expression:
        left = self._operand()
        while (power := self._power()) >= least:
            token = self._take()
            if power == _POSTFIX:
                left = self._postfix(left, token)
            elif power == _COMPARISON:
                operator = "!=" if token.text == "<>" else token.text
                right = self._infix(power + 1)
                left = Compare(cast(Comparison, operator), left, right, token.at)
            else:
                right = self._infix(power + 1)
                left = Calculate(cast(Arithmetic, token.text), left, right, token.at)
        return left

    def _power(self) -> int:
        return _POWERS.get(self._token.text, 0) if self._token.kind in ("keyword", "symbol") else 0

    def _postfix(self, left: Expression, token: Token) -> Expression:
        if token.text == "NOT":
            if not self._is("LIKE", "IN"):
                raise self._unexpected("LIKE or IN after NOT")
            return Not(self._postfix(left, self._take()), token.at)
        if token.text == "IN":
            self._expect("(", "( and the choices of IN")
            return In(left, self._list(), token.at)
        if self._token.kind != "string":
            raise self._unexpected("the pattern of LIKE, a string in quotes")
        return Like(left, _unquoted(self._take().text), token.at)

    def _inner(self, parsed: Callable[[], Expression]) -> Expression:
        """What is inside something else: each level costs this parser a few calls of its own."""
        self._nested += 1
        if self._nested >= MOST_NESTED:
            raise _too_deep(self._token.at)
        expression = parsed()
        self._nested -= 1
        return expression

    def _operand(self) -> Expression:
        token = self._take()
        match token.kind, token.text:
            case "integer", digits:
                return _integer(digits, token.at)
            case "string", written:
                return Literal(_unquoted(written), token.at)
            case "keyword", "TRUE" | "FALSE":
                return Literal(token.text == "TRUE", token.at)
            case "keyword", "NOT":
                return Not(self._inner(self._operand), token.at)
            case "keyword", "EXISTS":
                return Exists(self._attribute().name, token.at)
            case "symbol", "(":
                expression = self._inner(self._logic)
                self._expect(")", "an operator or )")
                return expression
            case "symbol", "-" | "+" if self._signs(token):
                return _integer(token.text + self._take().text, token.at)
            case "symbol", "-":
                return Negate(self._inner(self._operand), token.at)
        self._next -= 1
        if token.kind in ("name", "function"):
            return self._named()
        raise self._unexpected("a value")

    def _signs(self, sign: Token) -> bool:
        return self._token.kind == "integer" and self._token.at == sign.end

    def _named(self) -> Expression:
        following = self._tokens[self._next + 1]
        if (following.kind, following.text) != ("symbol", "("):
            return self._attribute()
        token = self._take()
        if not token.text.replace("_", "").isalpha():
            raise ParseError(f"{shown(token.text)} cannot name a function", position=token.at)
        self._take()
        if self._is(")"):
            self._take()
            return Call(token.text.upper(), (), token.at)
        return Call(token.text.upper(), self._list(), token.at)

    def _list(self) -> tuple[Expression, ...]:
        """Expressions up to the closing bracket; the opening one is taken."""
        found = [self._inner(self._logic)]
        while self._is(","):
            self._take()
            found.append(self._inner(self._logic))
        self._expect(")", "an operator, a comma or )")
        return tuple(found)

    def _attribute(self) -> Attribute:
        if self._token.kind != "name":
            raise self._unexpected("an attribute")
        token = self._take()
        return Attribute(token.text.lower(), token.at)


def _integer(written: str, at: int) -> Literal:
    """§2.2: 32 bits. The text is cut first, because int() refuses very long digit strings."""
    digits = written.lstrip("+-").lstrip("0") or "0"
    value = int(digits[:11]) * (-1 if written[0] == "-" else 1)
    if not LEAST <= value <= MOST:
        raise ParseError(f"{shown(written)} does not fit a 32-bit integer", position=at)
    return Literal(value, at)


def _unquoted(written: str) -> str:
    """§2.2: only the string's own quote has an escape; every other backslash is itself."""
    quote = written[0]
    return written[1:-1].replace("\\" + quote, quote)


def _check_depth(expression: Expression) -> None:
    """Chains of operators are read in a loop, but are evaluated one inside the other."""
    level: tuple[Expression, ...] = (expression,)
    depth = 1
    while level:
        if depth > MOST_NESTED:
            raise _too_deep(level[0].at)
        level, depth = tuple(below for node in level for below in inside(node)), depth + 1


def _too_deep(at: int) -> ParseError:
    return ParseError(f"nested deeper than {MOST_NESTED} levels", position=at)
