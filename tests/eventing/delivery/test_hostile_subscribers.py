"""Subscribers and sinks that do all that a server must not do, over real sockets (B4, B6, B7).

For each: how often it is tried, and what the user then sees: the record, and the dead letter's
attributes. Everything runs under the strict profile. Only where an answer never ends does a real
timeout of a tenth of a second end it.
"""

import asyncio

import pytest

from relume.config import Delivery, Destination
from tests.eventing.jetstream.raw_server import (
    BINARY,
    ONCE_MORE,
    RawServer,
    Script,
    dead_letter,
    drips,
    endless,
    explained,
    hangs,
    response,
)
from tests.eventing.stage import BROKER, BrokerStage, Subscriber, answer, event, trigger

CHUNKED = response("200 OK", BINARY + b"transfer-encoding: chunked\r\n", length=False)
NO_ANSWER: dict[str, bytes] = {
    "hangs up at once": b"",
    "hangs up in the status line": b"HTTP/1.1 20",
    "hangs up in the headers": b"HTTP/1.1 200 OK\r\ncontent-le",
    "hangs up before the body": response("200 OK", b"content-length: 10\r\n", length=False),
    "hangs up in the body": response("200 OK", BINARY + b"content-length: 99\r\n", b"x", False),
    "hangs up in a chunk": response(
        "200 OK", BINARY + b"transfer-encoding: chunked\r\n", b"ff\r\nx", False
    ),
    "sends a chunk without a size": response(
        "200 OK", BINARY + b"transfer-encoding: chunked\r\n", b"zz\r\n\r\n", False
    ),
    "speaks something else": b"220 mail.example ESMTP\r\n\r\n",
    "sends garbage": bytes(range(256)) * 4,
    "sends a status of five digits": b"HTTP/1.1 20000 OK\r\n\r\n",
    "sends a status that is no number": b"HTTP/1.1 yes OK\r\n\r\n",
    "sends two lengths": response("200 OK", b"content-length: 1\r\ncontent-length: 2\r\n", b"x"),
    "sends a length that is no number": response("200 OK", b"content-length: x\r\n", b"", False),
    "sends a header line of a megabyte": response("200 OK", b"x-h: %b\r\n" % (b"y" * 2**20)),
    "sends a header without a name": response("200 OK", b": x\r\n"),
    "sends a NUL in a header": response("200 OK", b"x-h: a\0b\r\n"),
}


@pytest.mark.parametrize("script", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_is_no_answer_is_tried_again_and_then_a_dead_letter(script: bytes) -> None:
    requests, record, dead = await dead_letter(script)
    assert requests == 2
    assert (record.attempt, record.status) == (2, None)
    reason, code, data = explained(dead)
    assert (reason, code) == ("retries-exhausted", -1)
    assert data
    assert len(str(dead.attributes["knativeerrordata"])) <= 1024


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(hangs, id="hangs"),
        pytest.param(drips(b"HTTP/1.1 200 OK\r\nx-h"), id="drips headers"),
        pytest.param(drips(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nabc"), id="drips a body"),
        pytest.param(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continues for ever"),
        pytest.param(endless(b"", b"\r\n" * 500), id="empty lines for ever"),
    ],
)
async def test_what_never_ends_is_ended_by_the_timeout_of_the_delivery(script: Script) -> None:
    delivery = Delivery(retry=1, backoff_delay_s=0.0, timeout_s=0.3)
    requests, _, dead = await dead_letter(script, delivery)
    assert requests == 2
    assert explained(dead) == ("retries-exhausted", -1, "no answer in time")


@pytest.mark.parametrize(
    ("head", "more"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"x-h: y\r\n" * 100, id="headers"),
        pytest.param(CHUNKED + b"1\r\nx\r\n0\r\n", b"x-t: y\r\n" * 100, id="trailers"),
        pytest.param(CHUNKED, b"9" * 1000, id="a chunk size"),
        pytest.param(b"HTTP/1.1 200 ", b"OK" * 500, id="a reason"),
    ],
)
async def test_what_has_no_end_where_an_answer_must_end_is_cut_off(
    head: bytes, more: bytes
) -> None:
    delivery = Delivery(retry=1, backoff_delay_s=0.0, timeout_s=5.0)
    requests, _, dead = await dead_letter(endless(head, more), delivery)
    assert requests == 2
    reason, code, data = explained(dead)
    assert (reason, code) == ("retries-exhausted", -1)
    assert data != "no answer in time"


async def test_without_a_timeout_a_delivery_waits_and_keeps_its_lease() -> None:
    async with RawServer(hangs) as server, BrokerStage([trigger("t", server.url)]) as stage:
        await stage.post(event("1"))
        await stage.until("delivering")
        await stage.virtual.advance(3600)
        assert stage.status("t")["in_flight"] == 1
        assert server.requests == 1


async def test_an_error_without_end_is_read_up_to_what_a_dead_letter_holds() -> None:
    script = endless(response("400 Bad Request", length=False), b"why " * 1000)
    requests, _, dead = await dead_letter(script)
    reason, code, data = explained(dead)
    assert (requests, reason, code, data) == (1, "rejected", 400, "why " * 192)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_b4_a_redirect_is_final_and_not_followed(status: int) -> None:
    async with RawServer(response("200 OK")) as elsewhere:
        location = b"location: %b\r\n" % elsewhere.url.encode()
        requests, _, dead = await dead_letter(response(f"{status} Elsewhere", location))
        assert (requests, elsewhere.requests) == (1, 0)
        assert explained(dead)[:2] == ("rejected", status)


@pytest.mark.parametrize(
    ("status", "requests", "reason"),
    [
        (101, 1, "rejected"),
        (400, 1, "rejected"),
        (404, 2, "retries-exhausted"),
        (408, 2, "retries-exhausted"),
        (409, 2, "retries-exhausted"),
        (410, 1, "rejected"),
        (429, 2, "retries-exhausted"),
        (500, 2, "retries-exhausted"),
        (599, 2, "retries-exhausted"),
        (999, 2, "retries-exhausted"),
    ],
)
async def test_b4_what_a_status_means(status: int, requests: int, reason: str) -> None:
    script = response(f"{status} Whatever", b"connection: close\r\n", b"why")
    tried, record, dead = await dead_letter(script)
    assert (tried, record.status) == (requests, status)
    assert explained(dead)[:2] == (reason, status)


async def test_a_204_with_a_body_is_a_success_and_harms_no_other_delivery() -> None:
    script = response("204 No Content", b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    async with (
        RawServer(script, keep_alive=True) as server,
        BrokerStage([trigger("t", server.url)], concurrency=lambda _: 1) as stage,
    ):
        for number in range(5):
            await stage.post(event(str(number)))
        records = await stage.until("delivered", 5)
        assert {record.status for record in records} == {204}
        assert stage.memory.buried(BROKER) == 0


async def test_two_answers_to_one_request_are_one() -> None:
    two = response("200 OK") + response("400 Bad Request")
    async with (
        RawServer(two, keep_alive=True) as server,
        BrokerStage([trigger("t", server.url)], concurrency=lambda _: 1) as stage,
    ):
        for number in range(5):
            await stage.post(event(str(number)))
        await stage.until("delivered", 5)
        assert stage.memory.buried(BROKER) == 0


async def test_an_answer_before_the_event_was_read_is_an_answer_or_none() -> None:
    async def hurried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response("413 Too Large", b"connection: close\r\n", b"no"))
        writer.close()

    server = await asyncio.start_server(hurried, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with BrokerStage([trigger("t", url, delivery=ONCE_MORE)]) as stage:
            await stage.post(event("1", b"x" * 2**22))
            [record] = await stage.until("dead-lettered")
            assert record.status in (413, None)


async def test_b6_a_sink_that_hangs_is_given_up_after_the_timeout() -> None:
    async with Subscriber(answer(status=400)) as asked, RawServer(hangs) as sink:
        delivery = Delivery(
            retry=1,
            backoff_delay_s=0.0,
            timeout_s=0.3,
            dead_letter_sink=Destination(uri=sink.url),
        )
        async with BrokerStage([trigger("t", asked.url, delivery=delivery)]) as stage:
            await stage.post(event("1"))
            [record] = await stage.until("dead-lettered")
            assert record.detail is not None
            assert record.detail.endswith(f"(kept by the Broker: {sink.url} failed)")
            assert (sink.requests, stage.memory.buried(BROKER)) == (2, 1)


@pytest.mark.parametrize("script", [b"", b"garbage\r\n\r\n", response("302 Elsewhere")])
async def test_b6_a_sink_that_fails_loses_nothing(script: bytes) -> None:
    async with Subscriber(answer(status=400)) as asked, RawServer(script) as sink:
        delivery = Delivery(
            retry=1, backoff_delay_s=0.0, dead_letter_sink=Destination(uri=sink.url)
        )
        async with BrokerStage([trigger("t", asked.url, delivery=delivery)]) as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
            assert stage.memory.buried(BROKER) == 1
