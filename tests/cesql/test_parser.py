"""The grammar of CESQL 1.0, and where and how a text that is none is refused (spec §2, §3.6)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relume.cesql.parser import MOST_NESTED, ParseError, parse
from relume.cesql.tree import (
    Attribute,
    Calculate,
    Call,
    Compare,
    Expression,
    Like,
    Literal,
    Logic,
    Negate,
    Not,
    inside,
)

# What expressions are made of, whole and in pieces.
PIECES = [
    *("a", "type", "source1", "1", "0", "2147483648", "-5", "+5", "TRUE", "false"),
    *("'x'", '"y"', r"'it\'s'", "''", "'open", '"open', "LENGTH", "CONCAT_WS", "A_", "x_y"),
    *("AND", "or", "XOR", "NOT", "like", "IN", "EXISTS", "=", "!=", "<>", "<", "<=", ">", ">="),
    *("+", "-", "*", "/", "%", "(", ")", "(", ")", ",", "_", "==", "&", "é", "\\"),
]


def shape(node: Expression) -> str:
    """The tree in brackets, so that grouping can be read."""
    match node:
        case Literal(value):
            return repr(value)
        case Attribute(name):
            return name
        case Call(name, arguments):
            return f"{name}({', '.join(map(shape, arguments))})"
        case Not(operand):
            return f"(NOT {shape(operand)})"
        case Negate(operand):
            return f"(- {shape(operand)})"
        case Like(operand, pattern):
            return f"({shape(operand)} LIKE {pattern!r})"
        case Logic(operator, operands):
            return f"({f' {operator} '.join(map(shape, operands))})"
        case Compare(operator, left, right) | Calculate(operator, left, right):
            return f"({shape(left)} {operator} {shape(right)})"
        case _:
            return f"({node.__class__.__name__} {' '.join(map(shape, inside(node)))})"


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("4 * 2 + 4 / 2", "((4 * 2) + (4 / 2))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("4 -1", "(4 - 1)"),
        ("\n4\t-\r\n1\n", "(4 - 1)"),
        ("4-1", "(4 - 1)"),
        ("- -10", "(- -10)"),
        ("- 10", "(- 10)"),
        ("+5 + +5", "(5 + 5)"),
        ("-2147483648", "-2147483648"),
        ("a + 1 = b * 2", "((a + 1) = (b * 2))"),
        ("a = b = c", "((a = b) = c)"),
        ("a <> b", "(a != b)"),
        ("NOT a = b", "((NOT a) = b)"),
        ("NOT a LIKE 'b'", "((NOT a) LIKE 'b')"),
        ("a NOT LIKE 'b'", "(NOT (a LIKE 'b'))"),
        ("a + b LIKE 'c'", "(a + (b LIKE 'c'))"),
        ("a AND b AND c", "(a AND b AND c)"),
        ("a OR b AND c", "(a OR (b AND c))"),
        ("a AND b OR c", "(a AND (b OR c))"),
        ("a AND b AND c OR d OR e XOR f", "(a AND b AND (c OR d OR (e XOR f)))"),
        ("(a OR b) AND c", "((a OR b) AND c)"),
        ("tYpE = Type", "(type = type)"),
        ("concat_ws (',', a)", "CONCAT_WS(',', a)"),
        ("f()", "F()"),
        (r"'a\'b' = "
         r'"a\"b"', """("a'b" = 'a"b')"""),
        (r"'a\"b\\'", r"""'a\\"b\\\\'"""),
        ("'é\n%'", r"'é\n%'"),
    ],
)  # fmt: skip
def test_an_expression_groups_as_the_grammar_says(text: str, grouped: str) -> None:
    assert shape(parse(text)) == grouped


@pytest.mark.parametrize(
    ("text", "character", "message"),
    [
        ("", 1, "unexpected the end of the expression, expected a value"),
        ("type = ", 8, "unexpected the end of the expression, expected a value"),
        ("type 'a'", 6, "unexpected 'a', expected an operator"),
        ("(a = b", 7, "expected an operator or )"),
        ("a = b)", 6, "unexpected ), expected an operator"),
        ("f(a, )", 6, "unexpected ), expected a value"),
        ("f(a b)", 5, "unexpected b, expected an operator, a comma or )"),
        ("a IN ()", 7, "unexpected ), expected a value"),
        ("a IN b", 6, "unexpected b, expected ( and the choices of IN"),
        ("a LIKE b", 8, "unexpected b, expected the pattern of LIKE, a string in quotes"),
        ("a NOT b", 7, "unexpected b, expected LIKE or IN after NOT"),
        ("EXISTS (a)", 8, "unexpected (, expected an attribute"),
        ("a == 'b'", 3, "unexpected ==: write ="),
        ("a && b", 3, "unexpected &&: write AND"),
        ("a || b", 3, "unexpected ||: write OR"),
        ("!a", 1, "unexpected !: write NOT"),
        ("a = 'b", 5, "the string 'b has no end"),
        (
            "a = 'it''s'",
            9,
            r"unexpected 's', expected an operator; a quote inside a string is written \'",
        ),
        ("a-b = ü", 7, "unexpected ü"),
        ("my_ext = 1", 1, "unexpected my_ext, expected an attribute"),
        ("1_a = 1", 1, "1_a is neither an attribute nor a function"),
        ("f1(a)", 1, "f1 cannot name a function"),
        ("a = 2147483648", 5, "2147483648 does not fit a 32-bit integer"),
        ("-2147483649", 1, "-2147483649 does not fit a 32-bit integer"),
        ("10000000000", 1, "10000000000 does not fit a 32-bit integer"),
        ("9" * 5000, 1, "does not fit a 32-bit integer"),
    ],
)
def test_a_text_that_is_none_is_refused_at_the_token(
    text: str, character: int, message: str
) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    error = caught.value
    assert error.position == character - 1
    assert str(error).startswith(f"character {character}: ")
    assert message in str(error)
    assert (error.reason, error.retryable) == ("invalid-cesql", False)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 10_000 + "a" + ")" * 10_000,
        "NOT " * 10_000 + "a",
        "- " * 10_000 + "1",
        "f(" * 10_000,
        "a IN (" * 10_000,
        "1" + " + 1" * 10_000,
        "a" + " LIKE 'b'" * 10_000,
        "a" + " AND a OR a" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_nesting_beyond_all_reason_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match=f"nested deeper than {MOST_NESTED} levels"):
        parse(text)


def test_nesting_is_allowed_up_to_the_limit() -> None:
    within = MOST_NESTED - 1
    assert parse("(" * within + "a" + ")" * within) == Attribute("a", within)
    parse("NOT " * within + "a")
    parse("1" + " + 1" * within)


def test_a_long_chain_is_not_deep() -> None:
    chain = parse(" OR ".join(f"(NOT (id = '{n}'))" for n in range(10_000)))
    assert isinstance(chain, Logic)
    assert len(chain.operands) == 10_000
    assert chain.texts[-1] == "(NOT (id = '9999'))"


def test_each_operand_of_a_chain_is_quoted_as_written() -> None:
    chain = parse("( a OR b ) AND  c   = 1 XOR NOT d")
    assert isinstance(chain, Logic)
    assert chain.texts == ("( a OR b )", "c   = 1 XOR NOT d")


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join))
def test_any_text_is_an_expression_or_a_parse_error(text: str) -> None:
    try:
        tree = parse(text)
    except ParseError as error:
        assert 0 <= error.position <= len(text)
        return
    places = []
    level: tuple[Expression, ...] = (tree,)
    while level:
        places += [node.at for node in level]
        level = tuple(below for node in level for below in inside(node))
    assert len(set(places)) == len(places)
    assert all(0 <= at < len(text) for at in places)
