"""The quick way to read headers finds what nats-py finds."""

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from relume.eventing.jetstream.header_reader import HeaderReader

STORED = (
    b"Relume-Write: 0123456789abcdef.12\r\nNats-TTL: 604800s\r\nNats-Sequence: 7\r\n"
    b"Nats-Time-Stamp: 2026-11-29T04:18:21.123456789Z\r\n\r\n"
)
lines = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.text(max_size=12).map(str.encode),
        st.text("aB-: \t\x1c\r\n\xa0", max_size=12).map(str.encode),
    ),
    max_size=5,
)


def test_the_headers_of_a_stored_message() -> None:
    assert HeaderReader._parse_header_lines(STORED) == {
        "Relume-Write": "0123456789abcdef.12",
        "Nats-TTL": "604800s",
        "Nats-Sequence": "7",
        "Nats-Time-Stamp": "2026-11-29T04:18:21.123456789Z",
    }


@given(lines)
def test_the_same_headers_as_nats_py(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)
    assert HeaderReader._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_nats_py_still_reads_headers_by_this_method() -> None:
    """Where it does not any more, the quick way is never taken, and may be removed."""
    client = HeaderReader()
    assert client._parse_header_lines is HeaderReader._parse_header_lines
    assert "_parse_header_lines" in vars(Client)
