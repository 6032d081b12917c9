"""Events whose attributes cannot travel as HTTP headers are refused at the door, with a reason."""

import pytest

from relume.base.limits import (
    ATTRIBUTE_BYTES,
    ATTRIBUTE_NAME_BYTES,
    ATTRIBUTES,
    ATTRIBUTES_BYTES,
)
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode_batch
from relume.eventing.header_room import AttributesTooLong, check_room
from tests.eventing.stage import BrokerStage, event

FITS = ATTRIBUTE_BYTES
WIDE = {"€": 9, "é": 6, "😀": 12, '"': 3, "x": 1}


def required(**more: str) -> dict[str, str]:
    return {"id": "1", "source": "/s", "type": "t", **more}


@pytest.mark.parametrize("character", WIDE)
@pytest.mark.parametrize("name", ["id", "subject", "partitionkey", "correlationid"])
def test_a_value_may_take_so_many_bytes_as_a_header_and_no_more(name: str, character: str) -> None:
    most = FITS // WIDE[character]
    check_room(required(**{name: character * most}))
    with pytest.raises(AttributesTooLong, match=f"^{name}: takes [0-9]+ bytes as an HTTP header"):
        check_room(required(**{name: character * (most + 1)}))


def test_a_name_may_have_so_many_characters_and_no_more() -> None:
    check_room(required(**{"n" * ATTRIBUTE_NAME_BYTES: ""}))
    with pytest.raises(AttributesTooLong, match="the name has 70000 characters"):
        check_room(required(**{"n" * 70_000: ""}))


def test_an_event_may_have_so_many_attributes_and_no_more() -> None:
    many = {f"a{number}": "" for number in range(ATTRIBUTES - 3)}
    check_room(required(**many))
    with pytest.raises(AttributesTooLong, match=f"{ATTRIBUTES + 1} attributes"):
        check_room(required(**many, one="more"))


def test_all_attributes_together_have_a_bound() -> None:
    count = ATTRIBUTES_BYTES // 50_000
    long = {f"a{number}": "x" * 50_000 for number in range(count)}
    check_room(required(**long))
    with pytest.raises(AttributesTooLong, match="the attributes take"):
        check_room(required(**long, one="x" * 50_000))


def test_what_a_broker_adds_to_a_dead_letter_does_not_count_against_it() -> None:
    many = {f"a{number}": "" for number in range(ATTRIBUTES - 3)}
    added = {"knativeerrordest": "http://x", "knativeerrorcode": "500", "deadletterreason": "r"}
    check_room(required(**many, **added))


async def test_the_door_names_the_attribute_and_stores_nothing() -> None:
    async with BrokerStage([]) as stage:
        for mode in (Mode.BINARY, Mode.STRUCTURED):
            refused = await stage.post(event("1", b"x", subject="s" * 70_000), mode)
            assert refused.status_code == 413
            assert refused.json() == {
                "error": f"subject: takes 70000 bytes as an HTTP header, and may take {FITS}; "
                "send it in the data",
                "reason": "attributes-too-long",
            }
        assert stage.accepted() == 0


async def test_the_door_names_the_event_of_a_batch() -> None:
    async with BrokerStage([]) as stage:
        long = CloudEvent.create({**required(), "subject": "é" * 20_000})
        refused = await stage.request(
            "POST", "/default/b", *encode_batch([event("1"), event("2"), long])
        )
        assert refused.status_code == 413
        assert refused.json()["error"].startswith("[2]: subject: takes 120000 bytes")
        assert stage.accepted() == 0


async def test_headers_that_every_delivery_repeats_have_the_same_bounds() -> None:
    async with BrokerStage([]) as stage:
        refused = await stage.post(event("1"), x_request_id="x" * 70_000)
        assert (refused.status_code, refused.json()["reason"]) == (413, "attributes-too-long")
        assert (await stage.post(event("1"), x_request_id="x" * FITS)).status_code == 202
