"""Successes that are none: what comes with a 2xx and is no event (B2, B5)."""

import asyncio
import gzip

import pytest

from relume.base.limits import ATTRIBUTE_BYTES, ATTRIBUTES, HEADER_BYTES, HEADERS
from relume.config import Exact
from relume.eventing.settings import EventingSettings
from tests.eventing.jetstream.raw_server import (
    BINARY,
    RawServer,
    dead_letter,
    endless,
    explained,
    response,
)
from tests.eventing.stage import BrokerStage, event, trigger

SMALL = EventingSettings(max_event_bytes=4096)


NOT_AN_EVENT: dict[str, tuple[bytes, str]] = {
    "text": (response("200 OK", b"content-type: text/plain\r\n", b"hello"), "no event"),
    "JSON": (response("200 OK", b"content-type: application/json\r\n", b"{}"), "no event"),
    "no content type": (response("200 OK", b"", b"hello"), "no event"),
    "half a structured event": (
        response("200 OK", b"content-type: application/cloudevents+json\r\n", b'{"id": "1"'),
        "no event",
    ),
    "a structured event without an id": (
        response(
            "200 OK",
            b"content-type: application/cloudevents+json\r\n",
            b'{"specversion": "1.0", "source": "/s", "type": "t"}',
        ),
        "id",
    ),
    "a deep structured event": (
        response("200 OK", b"content-type: application/cloudevents+json\r\n", b"[" * 100_000),
        "no event",
    ),
    "a batch": (
        response("200 OK", b"content-type: application/cloudevents-batch+json\r\n", b"[]"),
        "batch",
    ),
    "a binary event without a type": (
        response("200 OK", b"ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\n"),
        "type",
    ),
    "a binary event of version 9": (
        response("200 OK", BINARY.replace(b"1.0", b"9.0")),
        "specversion",
    ),
    "an attribute that is no text": (response("200 OK", BINARY + b"ce-x: a%0Ab\r\n"), "x"),
    "an attribute that no event may have": (response("200 OK", BINARY + b"ce-x_y: 1\r\n"), "x_y"),
}


@pytest.mark.parametrize(("script", "words"), NOT_AN_EVENT.values(), ids=NOT_AN_EVENT)
async def test_b5_a_success_that_is_no_event_is_a_dead_letter_without_retry(
    script: bytes, words: str
) -> None:
    requests, record, dead = await dead_letter(script)
    assert (requests, record.status) == (1, 200)
    reason, code, data = explained(dead)
    assert (reason, code) == ("not-an-event", 200)
    assert words in data


@pytest.mark.parametrize(
    ("head", "chunk"),
    [
        (response("200 OK", BINARY, length=False), b"x" * 1000),
        (
            response("200 OK", BINARY + b"transfer-encoding: chunked\r\n", length=False),
            b"3e8\r\n%b\r\n" % (b"x" * 1000),
        ),
        (response("200 OK", BINARY + b"content-length: 99999999999\r\n", length=False), b"x" * 999),
    ],
)
async def test_a_reply_without_end_is_read_up_to_the_limit(head: bytes, chunk: bytes) -> None:
    requests, _, dead = await dead_letter(endless(head, chunk), settings=SMALL)
    assert requests == 1
    assert explained(dead) == ("reply-too-large", 200, "the reply is larger than 4096 bytes")


async def test_a_compressed_reply_is_not_unpacked_without_a_bound() -> None:
    bomb = gzip.compress(bytes(2**26))
    packed = response("200 OK", BINARY + b"content-encoding: gzip\r\n", bomb)
    _, _, dead = await dead_letter(packed, settings=SMALL)
    assert explained(dead)[0] == "reply-too-large"


TOO_LONG = {
    "nearly all that our clients read": b"ce-x: %b\r\n" % (b"x" * (HEADER_BYTES - 1000)),
    "a value that no event may have": b"ce-x: %b\r\n" % (b"x" * (ATTRIBUTE_BYTES + 1)),
    "nearly as many headers as our clients read": b"".join(
        b"ce-x%d: x\r\n" % n for n in range(HEADERS - 10)
    ),
    "more attributes than an event may have": b"".join(
        b"ce-x%d: x\r\n" % n for n in range(ATTRIBUTES)
    ),
}


@pytest.mark.parametrize("headers", TOO_LONG.values(), ids=TOO_LONG)
async def test_a_reply_whose_attributes_cannot_travel_is_a_dead_letter_without_retry(
    headers: bytes,
) -> None:
    requests, _, dead = await dead_letter(response("200 OK", BINARY + headers))
    assert requests == 1
    assert explained(dead)[0] == "reply-too-large"


async def test_a_structured_reply_whose_attributes_cannot_travel_is_one_too() -> None:
    body = b'{"specversion": "1.0", "id": "2", "source": "/s", "type": "t", "subject": "%b"}'
    reply = response(
        "200 OK", b"content-type: application/cloudevents+json\r\n", body % (b"x" * 70_000)
    )
    requests, _, dead = await dead_letter(reply)
    assert requests == 1
    reason, code, data = explained(dead)
    assert (reason, code) == ("reply-too-large", 200)
    assert data.startswith("subject: takes 70000 bytes as an HTTP header")


async def test_a_reply_whose_headers_are_not_encoded_is_read_as_it_is_meant() -> None:
    raw = response("200 OK", BINARY + "ce-subject: 50% für 世界\r\n".encode())
    async with RawServer(raw) as server:
        once = trigger("t", server.url, filters=(Exact({"type": "ask"}),))
        async with BrokerStage([once]) as stage:
            await stage.post(event("1"))
            [record] = await stage.until("replied")
            assert record.event.subject == "50% für 世界"


async def test_b2_a_reply_cannot_give_itself_a_longer_life() -> None:
    async def immortal(writer: asyncio.StreamWriter) -> None:
        again = BINARY.replace(b"ce-id: 2", b"ce-id: %d" % server.requests)
        writer.write(response("200 OK", again + b"ce-knativebrokerttl: 255\r\n"))

    async with RawServer(immortal) as server, BrokerStage([trigger("t", server.url)]) as stage:
        await stage.post(event("first", knativebrokerttl=6))
        [record] = await stage.until("dead-lettered")
        assert record.event.attributes["deadletterreason"] == "ttl-exhausted"
        assert server.requests == 5
