"""Server-sent events: the same events whatever pieces the bytes come in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.eventing.jobs.sse import EventParser, EventTooLong

STREAM = (
    b": a comment\r\n\r\ndata: one\r\ndata:two\r\n\r\nevent: e\nid: 7\nretry: 5\ndata:  three\n\n"
    b"data\n\n\n\nnothing: here\n\ndata: \xc3\xa9\xe5\xad\x97\r\rdata: half"
)
EVENTS = [b"one\ntwo", b" three", b"", "é字".encode()]


def parsed(pieces: list[bytes], limit: int = 1000) -> list[bytes]:
    parser = EventParser(limit)
    return [data for piece in pieces for data in parser.feed(piece)]


def test_the_events_of_a_stream() -> None:
    assert parsed([STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(ends)]
    assert parsed(pieces) == EVENTS


def test_every_byte_may_come_alone() -> None:
    assert parsed([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_taken(pieces: list[bytes]) -> None:
    parsed(pieces)


@pytest.mark.parametrize(
    "pieces",
    [[b"data: " + b"x" * 101], [b"data: 1234567890\n"] * 11, [b"x" * 60, b"y" * 60]],
    ids=["a long line", "many lines", "a line without an end"],
)
def test_an_event_without_an_end_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(EventTooLong):
        parsed(pieces, limit=100)


def test_a_long_stream_of_short_events_is_not_refused() -> None:
    assert len(parsed([b"data: 1234567890\n\n"] * 100, limit=100)) == 100
