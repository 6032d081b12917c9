"""Unquoted words of YAML mean what they mean to an API server, for every reader of ours."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import JsonValue
from relume.cluster.claims.yaml_files import values
from relume.config.yaml_scalars import ServerDumper
from relume.config.yaml_source import documents, plain

TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
# kubernetes-sigs/yaml goyaml.v2/resolve.go, and the JSON that sigs.k8s.io/yaml makes of it.
WORDS: list[tuple[str, JsonValue]] = [
    *((word, True) for word in TRUE),
    *((word, False) for word in FALSE),
    *((word, word) for word in ("yEs", "tRUE", "oN", "Ye", "nO", "nULL", "None", "nil", "=")),
    ("10", 10),
    ("+10", 10),
    ("-10", -10),
    ("010", 8),
    ("0o17", 15),
    ("0O17", 15),
    ("-017", -15),
    ("0x1F", 31),
    ("0X1f", 31),
    ("-0x1F", -31),
    ("0b101", 5),
    ("-0b11", -3),
    ("1_000", 1000),
    ("1__0_", 10),
    ("0_7", 7),
    ("_1", "_1"),
    ("0x", "0x"),
    ("0o8", "0o8"),
    ("0b2", "0b2"),
    ("08", 8),
    ("09.5", 9.5),
    ("1e3", 1000),
    ("1E+3", 1000),
    ("1.e1", 10),
    ("4.0", 4),
    ("4.", 4),
    ("-4.0", -4),
    ("1.5", 1.5),
    (".5", 0.5),
    ("+.5", 0.5),
    ("15e-1", 1.5),
    ("1e-3", 0.001),
    ("1e400", "1e400"),
    ("e3", "e3"),
    ("1e", "1e"),
    ("1.2.3", "1.2.3"),
    ("1:30", "1:30"),
    ("1:30:00.5", "1:30:00.5"),
    ("2026-11-23", "2026-11-23"),
    ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
    ("0xGG", "0xGG"),
    ("１０", "１０"),
    ("18446744073709551615", 18446744073709551615),
]
NOTHING = ["", "~", "null", "Null", "NULL"]


def both(file: Path, text: str) -> list[JsonValue]:
    """What manifests are read as, after the reader of inventories was seen to read the same."""
    file.write_text(text, encoding="utf-8")
    nodes = [plain(root) for root in documents(file, lambda _: None)]
    quick = [root for root in values(file) if root is not None]
    assert [without_null(root) for root in quick] == nodes
    return nodes


def without_null(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("word", "value"), WORDS)
def test_an_unquoted_word_is_what_the_server_reads(
    tmp_path: Path, word: str, value: JsonValue
) -> None:
    ((found,),) = both(tmp_path / "m.yaml", f"- {word}\n")  # type: ignore[misc]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("word", NOTHING)
def test_every_form_of_null_is_no_field(tmp_path: Path, word: str) -> None:
    assert both(tmp_path / "m.yaml", f"a: {word}\nb: 1\n") == [{"b": 1}]


@pytest.mark.parametrize("word", [word for word, _ in WORDS] + NOTHING)
def test_a_quoted_word_is_itself(tmp_path: Path, word: str) -> None:
    assert both(tmp_path / "m.yaml", f"a: '{word}'\nb: \"{word}\"\nc: !!str {word or '~'}\n") == [
        {"a": word, "b": word, "c": word or "~"}
    ]


@pytest.mark.parametrize("word", [".nan", ".NaN", ".inf", "-.Inf", "+.INF", "9" * 2000])
def test_a_number_that_json_has_not_is_refused_at_its_line(tmp_path: Path, word: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"a: 1\nb: {word}\n")
    for read in (lambda: list(documents(file)), lambda: list(values(file))):
        with pytest.raises(InvalidManifest, match="has no place in JSON") as caught:
            read()
        assert caught.value.line == 2


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("y", "true"),
        ("off", "false"),
        ("010", "8"),
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("1.10", "1.1"),
        ("1:30", "1:30"),
        ("'y'", "y"),
        ("=", "="),
    ],
)
def test_a_key_is_written_as_json_writes_it(tmp_path: Path, key: str, name: str) -> None:
    assert both(tmp_path / "m.yaml", f"a: {{{key}: 1}}\n") == [{"a": {name: 1}}]


def test_a_key_that_is_null_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("a: 1\n~: 2\n")
    for read in (lambda: list(documents(file)), lambda: list(values(file))):
        with pytest.raises(InvalidManifest, match="must be a string, not null") as caught:
            read()
        assert caught.value.line == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!!int 010", 8),
        ("!!float 4", 4),
        ("!!float 1.5", 1.5),
        ("!!bool y", True),
        ("!!int '12'", 12),
        ("!!null ~", None),
        ("!!timestamp 2026-11-23", "2026-11-23"),
    ],
)
def test_a_tag_says_what_a_word_is(tmp_path: Path, text: str, value: JsonValue) -> None:
    expected = {} if value is None else {"a": value}
    assert both(tmp_path / "m.yaml", f"a: {text}\n") == [expected]


@pytest.mark.parametrize("text", ["!!int x", "!!int 1.5", "!!bool 1", "!!float y", "!!null 0"])
def test_a_tag_that_does_not_fit_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"a: {text}\n")
    for read in (lambda: list(documents(file)), lambda: list(values(file))):
        with pytest.raises(InvalidManifest, match="cannot decode"):
            read()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{<<: {a: 1}, a: 2}", {"a": 2}),
        ("{a: 2, <<: {a: 1}}", {"a": 1}),  # a later field wins, whichever of the two it is
        ("{<<: [{a: 1, b: 1}, {a: 2, c: 2}]}", {"a": 1, "b": 1, "c": 2}),
        ("{<<: {<<: {a: 1}, b: 2}, c: 3}", {"a": 1, "b": 2, "c": 3}),
    ],
)
def test_the_fields_of_a_merge_key_stand_in_its_place(
    tmp_path: Path, text: str, value: JsonValue
) -> None:
    assert both(tmp_path / "m.yaml", f"x: {text}\n") == [{"x": value}]


def test_of_a_key_that_is_there_twice_the_last_counts(tmp_path: Path) -> None:
    assert both(tmp_path / "m.yaml", "a: 1\nb: {c: 1, c: 2}\na: 3\n") == [{"a": 3, "b": {"c": 2}}]


def test_two_escapes_of_json_are_one_character(tmp_path: Path) -> None:
    text = '{"a\\ud83d\\ude00": "\\ud83d\\ude00 \\u00e9"}'
    assert both(tmp_path / "m.json", text) == [{"a😀": "😀 é"}]
    (tmp_path / "m.yaml").write_text(f"b: {text}\n")
    with pytest.raises(InvalidManifest, match="half a character"):
        list(documents(tmp_path / "m.yaml"))


LIKE_NUMBERS = r"[-+]?(0[xob]?)?[0-9a-f_]{0,6}(\.[0-9]{0,3})?([eE][-+]?[0-9]{0,2})?"
WITH_FOLDER = [HealthCheck.function_scoped_fixture]
words = st.one_of(
    st.from_regex(LIKE_NUMBERS, fullmatch=True),
    st.sampled_from([word for word, _ in WORDS] + NOTHING),
    st.text(
        st.characters(codec="utf-8", categories=("L", "N")) | st.sampled_from("+._~=<"), max_size=8
    ),
)
trees = st.recursive(
    words
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None, suppress_health_check=WITH_FOLDER)
@given(trees)
def test_what_we_write_is_read_as_it_was_meant(tmp_path: Path, value: JsonValue) -> None:
    written = yaml.dump({"a": value}, Dumper=ServerDumper, allow_unicode=True)
    (found,) = both(tmp_path / "m.yaml", written)
    assert isinstance(found, dict)
    assert found["a"] == as_json(value)


def as_json(value: JsonValue) -> JsonValue:
    """The value after JSON: a number without a fraction is a whole one."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, float) and value.is_integer() and math.fabs(value) < 1e21:
        return int(value)
    return value


@settings(max_examples=500, deadline=None, suppress_health_check=WITH_FOLDER)
@given(words)
def test_both_readers_agree_about_any_word(tmp_path: Path, word: str) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(f"- {word}\n- {word}: 1\n", encoding="utf-8")
    outcomes = []
    for read in (lambda: [plain(root) for root in documents(file)], lambda: list(values(file))):
        try:
            outcomes.append(("read", without_null(read())))
        except InvalidManifest as error:
            outcomes.append(("refused", error.line))
    assert outcomes[0][0] == outcomes[1][0], (word, outcomes)
    if outcomes[0][0] == "read":
        assert outcomes[0] == outcomes[1]
