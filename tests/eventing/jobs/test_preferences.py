"""The Prefer header (RFC 7240)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.preferences import AsyncPreference, async_preference


@pytest.mark.parametrize(
    ("values", "wait_s", "others"),
    [
        (["respond-async"], None, ""),
        (["Respond-ASYNC, WAIT=10"], 10, ""),
        (["respond-async; wait=3"], None, ""),  # a parameter of another preference
        (["wait=0", "respond-async"], 0, ""),
        (['respond-async, wait = "20"'], 20, ""),
        (['respond-async=""; x=1; y="a,b"'], None, ""),
        (["respond-async, wait=1, wait=2"], 1, ""),
        (["return=minimal, respond-async,, handling=lenient;x"], None, None),
        (["respond-async, wait=soon"], None, ""),
        (["respond-async, wait=-1"], None, ""),
        (["respond-async, wait=1.5"], None, ""),
        (["respond-async, wait"], None, ""),
        (["respond-async, wait=99999999999999999999"], None, ""),
        (['x="a, wait=7", respond-async'], None, 'x="a, wait=7"'),
        (['x="a\\", wait=7", respond-async'], None, 'x="a\\", wait=7"'),
        (["respond-async", "if-available"], None, "if-available"),
    ],
)
def test_the_preference_is_found_among_others(
    values: list[str], wait_s: int | None, others: str | None
) -> None:
    expected = "return=minimal, handling=lenient;x" if others is None else others
    assert async_preference(values) == AsyncPreference(wait_s, expected)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ",",
        "wait=5",
        "return=respond-async",
        'x="respond-async"',
        "respond-asynchronously",
        "xrespond-async",
        "respond async",
        'x="respond-async, respond-async',  # a quote without its end takes the rest
        "x; respond-async",
        "respond-async wait=5",
    ],
)
def test_without_the_preference_nothing_is_asked_for(value: str) -> None:
    assert async_preference([value]) is None


_TOKEN = st.text("abcXYZ0189-_.!", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in ("respond-async", "wait")
)
_QUOTED = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=8).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_OTHER = st.builds(
    lambda name, value, parameter: f"{name}{value}{parameter}",
    _TOKEN,
    st.one_of(st.just(""), _TOKEN.map("={}".format), _QUOTED.map(" = {}".format)),
    st.one_of(st.just(""), _QUOTED.map(" ; p={}".format)),
)


@given(st.lists(_OTHER, max_size=4), st.integers(0, 999_999), st.data())
def test_whatever_stands_beside_it_is_kept_and_changes_nothing(
    others: list[str], wait_s: int, data: st.DataObject
) -> None:
    quoted = data.draw(st.booleans())
    ours = ["Respond-Async", f'wait="{wait_s}"' if quoted else f"wait={wait_s}"]
    mixed = data.draw(st.permutations([*others, *ours]))
    cut = data.draw(st.integers(0, len(mixed)))
    values = [", ".join(mixed[:cut]), ",".join(mixed[cut:])]
    kept = ", ".join(each for each in mixed if each not in ours)
    assert async_preference(values) == AsyncPreference(wait_s, kept)


@given(st.lists(st.text(st.characters(max_codepoint=0xFF), max_size=40), max_size=3))
def test_no_text_breaks_it(values: list[str]) -> None:
    found = async_preference(values)
    assert found is None or found.wait_s is None or found.wait_s >= 0


@pytest.mark.parametrize("piece", ['"', '\\"', '"\\', ",", " ", "a ", "=", ';"'])
def test_the_time_for_a_hostile_header_is_linear(piece: str) -> None:
    assert async_preference(["x=" + piece * 300_000]) is None
