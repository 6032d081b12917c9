"""How events lie in the store, and what makes two events the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.cloudevents.event import InvalidEvent
from relume.eventing.envelope import Envelope, identity

from .stage import event


@given(st.none() | st.binary(), st.dictionaries(st.text(), st.text(), max_size=2))
def test_an_envelope_comes_back_as_it_was(data: bytes | None, headers: dict[str, str]) -> None:
    packed = Envelope(event("1", data, count=5, yes=True, subject="Grüße"), headers)
    assert Envelope.unpack(packed.pack()) == packed


@pytest.mark.parametrize("damaged", [b"", b"{", b"[1]", b"null", b"[{}]\nx"])
def test_damaged_bytes_are_no_event(damaged: bytes) -> None:
    with pytest.raises(InvalidEvent, match="damaged"):
        Envelope.unpack(damaged)


def test_source_id_and_type_make_an_event_and_nothing_else_does() -> None:
    same = {identity(event("1", data, subject=s)) for data in (b"a", b"b") for s in ("x", "y")}
    assert len(same) == 1
    others = [event("2"), event("1", source="/other"), event("1", type="other")]
    assert len(same | {identity(other) for other in others}) == 4
