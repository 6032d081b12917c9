"""Headers of senders that do not encode: read as they are meant where that is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.cloudevents.event import InvalidEvent
from relume.cloudevents.header_value import decode_value, encode_value
from relume.cloudevents.http import decode

BINARY = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]


def on_the_wire(text: str, charset: str = "utf-8") -> str:
    """A header value as an ASGI server gives it: its bytes as Latin-1."""
    return text.encode(charset).decode("latin-1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("50%", "50%", id="a percent sign at the end"),
        pytest.param("100% sure", "100% sure", id="a percent sign before a space"),
        pytest.param("%zz", "%zz", id="no hexadecimal digits"),
        pytest.param("%4", "%4", id="one digit"),
        pytest.param("%%", "%%", id="two percent signs"),
        pytest.param("5%%20off", "5% off", id="a percent sign before an escape"),
        pytest.param("%e2%82%ac 5%", "€ 5%", id="escapes are read beside it"),
        pytest.param("%FF", "%FF", id="an escape that is no UTF-8"),
        pytest.param("%C3%28", "%C3%28", id="escapes that are no UTF-8"),
        pytest.param(on_the_wire("Grüße, 世界 😀"), "Grüße, 世界 😀", id="raw UTF-8"),
        pytest.param(on_the_wire("ü%20%C3%BC"), "ü ü", id="raw UTF-8 and escapes"),
        pytest.param(on_the_wire("h\xe9", "latin-1"), "hé", id="Latin-1"),
        pytest.param(on_the_wire("Größe €".replace("€", "")), "Größe", id="space at the end"),
        pytest.param('"open', '"open', id="an open quote"),
        pytest.param('5" disk', '5" disk', id="a quote for inches"),
        pytest.param('"a \\"b\\" %25"', 'a "b" %', id="a quoted string is unquoted as before"),
        pytest.param("Euro%20%E2%82%AC", "Euro €", id="what is encoded is decoded as before"),
        pytest.param("%2541", "%41", id="one round only"),
    ],
)
def test_a_value_is_read_as_it_is_meant(value: str, text: str) -> None:
    event = decode([*BINARY, ("ce-extension", value)], b"", lenient=True).event
    assert event.attributes["extension"] == text


@pytest.mark.parametrize("value", ["a\x00b", "a\x7fb", "a%0Ab", "\udce9", "a\nb", "\x80"])
def test_what_no_attribute_may_hold_is_refused_all_the_same(value: str) -> None:
    with pytest.raises(InvalidEvent, match="extension"):
        decode([*BINARY, ("ce-extension", value)], b"", lenient=True)


def test_every_required_attribute_is_read_so() -> None:
    headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", on_the_wire("n°1 100%")),
        ("ce-source", "/s"),
        ("ce-type", on_the_wire("tÿpe")),
        ("ce-subject", on_the_wire("50% für 世界")),
    ]
    event = decode(headers, b"", lenient=True).event
    assert (event.id, event.type, event.subject) == ("n°1 100%", "tÿpe", "50% für 世界")


@given(st.text())
def test_what_is_encoded_reads_the_same_either_way(text: str) -> None:
    try:
        value = encode_value(text)
    except UnicodeEncodeError:
        return
    assert decode_value("x", value, lenient=True) == decode_value("x", value) == text


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs"], exclude_characters='%"'))
)
def test_raw_utf_8_is_itself(text: str) -> None:
    assert decode_value("x", on_the_wire(text), lenient=True) == text


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"])))
def test_no_header_is_refused_for_how_it_is_written(value: str) -> None:
    decode_value("x", value, lenient=True)
