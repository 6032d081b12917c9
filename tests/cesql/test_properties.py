"""Whatever the expression and whatever the event: a value of a known type, never an exception."""

from hypothesis import given, settings
from hypothesis import strategies as st

from relume.cesql.parser import MOST_NESTED, ParseError
from relume.cesql.program import compile
from relume.cloudevents.event import CloudEvent

NAMES = ("id", "type", "missing", "count", "urgent", "text")
FUNCTIONS = (
    *("INT", "BOOL", "STRING", "ABS", "LENGTH", "CONCAT", "CONCAT_WS", "LOWER", "UPPER", "TRIM"),
    *("LEFT", "RIGHT", "SUBSTRING", "NOPE"),
)
OPERATORS = (*("AND", "OR", "XOR", "=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%"),)


def string(text: str) -> str:
    """A string literal; what no literal can say is left out."""
    return "'" + text.replace("\\", "").replace("'", "\\'") + "'"


STRINGS = st.text(max_size=6).map(string) | st.sampled_from(["'5'", "'true'", "'%a_'"])
LEAVES = (
    st.sampled_from(NAMES)
    | STRINGS
    | st.integers(-(2**31), 2**31 - 1).map(str)
    | st.sampled_from(["TRUE", "false", "EXISTS count", "2147483647", "0"])
)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions made of smaller ones."""
    several = st.lists(inner, max_size=3).map(", ".join)
    negation = st.sampled_from(["", "NOT "])
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(OPERATORS), inner),
        st.builds("{}({})".format, st.sampled_from(FUNCTIONS), several),
        st.builds("({} {}LIKE {})".format, inner, negation, STRINGS),
        st.builds("({} {}IN ({}, {}))".format, inner, negation, inner, inner),
        st.builds("{} {}".format, st.sampled_from(["NOT", "-"]), inner),
    )


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=12)
VALUES = st.text(max_size=8) | st.integers(-(2**31), 2**31 - 1) | st.booleans()
EVENTS = st.dictionaries(st.sampled_from(NAMES), VALUES).map(
    lambda attributes: CloudEvent({"specversion": "1.0", **attributes})
)


@settings(max_examples=1000, deadline=None)
@given(EXPRESSIONS, EVENTS)
def test_evaluating_never_raises(text: str, event: CloudEvent) -> None:
    program = compile(text)
    before = dict(event.attributes)
    result = program.evaluate(event.attributes)
    assert result.value.__class__ in (str, int, bool)
    if isinstance(result.value, int):
        assert -(2**31) <= result.value < 2**31
    assert program.matches(event.attributes) is (result.value is True and result.error is None)
    if result.error is not None:
        assert 0 <= result.error.position < len(text)
    assert program.evaluate(event.attributes) == result  # referential transparency (§1)
    assert event.attributes == before


@settings(deadline=None)
@given(EXPRESSIONS, EVENTS)
def test_what_wraps_an_expression_does_not_change_what_is_inside(
    text: str, event: CloudEvent
) -> None:
    assert (
        compile(f"({text})").evaluate(event.attributes).value
        == compile(text).evaluate(event.attributes).value
    )
    matches = compile(text).matches(event.attributes)
    assert compile(f"TRUE AND ({text}) = TRUE").matches(event.attributes) >= matches


@settings(deadline=None)
@given(st.text(), EVENTS)
def test_any_text_is_a_parse_error_or_can_be_evaluated(text: str, event: CloudEvent) -> None:
    try:
        program = compile(text)
    except ParseError:
        return
    program.evaluate(event.attributes)


def test_an_expression_at_the_limit_of_nesting_is_evaluated() -> None:
    event = CloudEvent({"id": "1", "one": "1"})
    levels = MOST_NESTED - 2
    assert compile("NOT " * levels + "TRUE").matches(event.attributes) is (levels % 2 == 0)
    assert compile("1" + " + one" * levels + f" = {levels + 1}").matches(event.attributes)
    assert compile("LOWER(" * levels + "'A'" + ")" * levels + " = 'a'").matches(event.attributes)
