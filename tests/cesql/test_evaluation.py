"""CESQL 1.0 beyond its kit: what the specification says that no case of the kit asks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relume.cesql.parser import ParseError
from relume.cesql.program import Result, compile
from relume.cesql.values import EvaluationError, Value, like
from relume.cloudevents.event import CloudEvent

EVENT = CloudEvent.create(
    {
        "id": "1",
        "source": "/orders/eu",
        "type": "com.example.order.created",
        "hop": "5",
        "count": 5,
        "urgent": True,
        "yes": "tRue",
    },
    b'{"data": "is never looked at"}',
)


def evaluate(text: str) -> Result:
    return compile(text).evaluate(EVENT.attributes)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("count = '5'", True),  # §3.7: the type of the right operand decides
        ("'5' = count", True),
        ("'05' = count", True),
        ("count = '05'", False),
        ("hop < 10", True),
        ("hop < count + 1", True),
        ("urgent = 'true'", True),
        ("urgent = 'TRUE'", False),
        ("urgent AND yes", True),
        ("urgent XOR yes XOR TRUE", True),
        ("1 AND 2", True),
        ("NOT 0", True),
        ("NOT 1", False),
        ("-2147483648 + 1 - 1", -(2**31)),
        ("-7 / 2", -3),  # §3.4.2: rounded towards 0
        ("7 / -2", -3),
        ("-7 % 2", -1),  # the sign of the left operand
        ("7 % -2", 1),
        ("INT('+7')", 7),
        ("INT('-0007')", -7),
        ("INT('00000000000000000007')", 7),
        ("INT('-2147483648')", -(2**31)),
        ("INT('2147483647')", 2**31 - 1),
        ("LENGTH('é\N{GRINNING FACE}')", 2),  # §3.5.1: characters, not bytes
        ("TRIM('\u2003 a\x1f ')", "a\x1f"),  # Unicode white space; a control character is none
        ("SUBSTRING('abc', 3, 9)", "c"),
        ("SUBSTRING('abc', -3)", "abc"),
        ("SUBSTRING('', 0)", ""),
        ("RIGHT('abc', 0)", ""),
        ("RIGHT('abc', 5)", "abc"),
        ("CONCAT(count, urgent)", "5true"),
        ("count IN ('4', '5')", True),
        ("hop IN (4, 5)", True),
        ("count IN ('5', 'five')", True),  # the second choice is not needed
        ("EXISTS data", False),  # data is never filterable
        ("missing = 1 OR TRUE", False),
        ("TRUE OR missing = 1", True),
    ],
)
def test_the_value_is(text: str, value: Value) -> None:
    assert evaluate(text).value == value
    assert type(evaluate(text).value) is type(value)


@pytest.mark.parametrize(
    ("text", "value", "kind", "character"),
    [
        ("missing", False, "missingAttribute", 1),
        ("LENGTH(missing)", 0, "missingAttribute", 8),
        ("CONCAT('a', missing)", "", "missingAttribute", 13),
        ("data = 'x'", False, "missingAttribute", 1),
        ("missing = 1 OR TRUE", False, "missingAttribute", 1),
        ("count IN ('five', '5')", False, "cast", 11),
        ("hop + 'x'", 0, "cast", 7),
        ("type < 5", False, "cast", 1),
        ("type AND TRUE", False, "cast", 1),
        ("INT('2147483648')", 0, "cast", 1),
        ("INT(' 5')", 0, "cast", 1),
        ("INT('٥')", 0, "cast", 1),
        ("2147483647 + 1", 0, "math", 12),
        ("-2147483648 / -1", 0, "math", 13),
        ("- -2147483648", 0, "math", 1),
        ("LENGTH(LEFT('abc', -1))", 0, "functionEvaluation", 8),
        ("SUBSTRING('abc', 1, -1)", "", "functionEvaluation", 1),
        ("NOPE(1)", False, "missingFunction", 1),
        ("LENGTH()", False, "missingFunction", 1),
        ("LENGTH('a', 'b')", False, "missingFunction", 1),
        ("1 + NOPE()", 0, "missingFunction", 5),
    ],
)
def test_an_error_has_a_kind_a_place_and_leaves_a_value(
    text: str, value: Value, kind: str, character: int
) -> None:
    result = evaluate(text)
    assert isinstance(result.error, EvaluationError)
    assert (result.value, result.error.kind) == (value, kind)
    assert type(result.value) is type(value)
    assert result.error.position == character - 1
    assert result.error.message


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("type LIKE 'com.%'", True),
        ("type LIKE 'org.%'", False),
        ("urgent", True),
        ("yes", False),  # a String, though it reads true (§1.2)
        ("count", False),
        ("missing = 'x'", False),
        ("missing != 'x'", False),
        ("NOT EXISTS missing", True),
        ("NOT 10", False),  # worth true, and an error
        ("NOT (1 / 0 = 1)", False),
    ],
)
def test_a_filter_takes_the_boolean_true_without_an_error(text: str, matches: bool) -> None:
    assert compile(text).matches(EVENT.attributes) is matches


def test_a_text_that_is_no_expression_is_not_compiled() -> None:
    with pytest.raises(ParseError, match="character 8"):
        compile("type = ")


def test_a_long_chain_is_evaluated_without_deep_calls() -> None:
    chain = compile(" OR ".join(f"id = '{n}'" for n in reversed(range(5_000))))
    assert chain.matches(EVENT.attributes)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("%", "", True),
        ("%%", "a\nb", True),
        ("_", "", False),
        ("_", "\n", True),
        ("a%a", "a", False),
        ("a%a", "aa", True),
        ("a.c", "abc", False),
        ("(%)", "(x)", True),
        (r"100\%", "100%", True),
        (r"100\%", "1000", False),
        (r"a\\%", r"a\%", True),  # a backslash, then the sign itself
        ("a\\", "a\\", True),
        (r"\__", "_x", True),
        ("%ab%ab%", "xabyab", True),
        ("%ab%b", "ab", False),
        ("a%b%c", "a-b-b-c", True),
    ],
)
def test_like_compares_the_whole_text(pattern: str, text: str, matches: bool) -> None:
    assert like(pattern)(text) is matches


SIGNS = st.text("ab%_\\\n", max_size=8)


def plain_like(pattern: str, text: str) -> bool:
    """§3.4.3 as it is written, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "\\" and pattern[1:2] in ("%", "_"):
        return text[:1] == pattern[1] and plain_like(pattern[2:], text[1:])
    if pattern[0] == "%":
        return any(plain_like(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("_", text[0]) and plain_like(pattern[1:], text[1:])


@settings(max_examples=500, deadline=None)
@given(SIGNS, SIGNS)
def test_like_agrees_with_its_definition(pattern: str, text: str) -> None:
    assert like(pattern)(text) is plain_like(pattern, text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "pattern", ["%a" * 200 + "%b", "%a_a" * 100 + "%b", "%" * 1000 + "b", "a%" * 200 + "b%c"]
)
def test_like_does_not_try_again_what_it_has_found(pattern: str) -> None:
    # 64 KiB, the largest header that anybody takes: milliseconds here, and longer than the
    # universe is old for a regular expression that backtracks.
    assert not like(pattern)("a" * 65_536)
