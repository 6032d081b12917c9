"""Subscribers that do all that a server must not do, over real sockets (B4 to B7).

For each: how often it is tried, and what the user then sees: the record, and the dead letter's
attributes. Everything runs under the strict profile. Only where an answer never ends does a real
timeout of a tenth of a second end it.
"""

import asyncio
import base64
import gzip
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relume.config import Delivery, Destination
from relume.eventing.delivery import retry_after_s
from relume.eventing.event import CloudEvent
from relume.eventing.observer import Record
from relume.eventing.settings import EventingSettings

from .stage import BROKER, Stage, Subscriber, answer, event, trigger

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
BINARY = b"ce-specversion: 1.0\r\nce-id: 2\r\nce-source: /s\r\nce-type: reply\r\n"
ONCE_MORE = Delivery(retry=1, backoff_delay_s=0.0)
SMALL = EventingSettings(max_event_bytes=4096)


class RawServer:
    """Reads each request to its end, then does what the script says, and hangs up."""

    def __init__(self, script: Script | bytes, *, keep_alive: bool = False) -> None:
        self._script = script
        self._keep_alive = keep_alive
        self._open: set[asyncio.StreamWriter] = set()
        self.requests = 0
        self.url = ""

    async def __aenter__(self) -> "RawServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.requests += 1
                await self._answer(writer)
                if not self._keep_alive:
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away, as it should
        finally:
            writer.close()
            self._open.discard(writer)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._script, bytes):
            writer.write(self._script)
            await writer.drain()
        else:
            await self._script(writer)


async def hangs(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def endless(head: bytes, chunk: bytes) -> Script:
    """Sends for ever, as fast as the client reads."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(chunk)
            await writer.drain()

    return script


def drips(head: bytes) -> Script:
    """Sends a byte at a time, in more time than anybody has."""

    async def script(writer: asyncio.StreamWriter) -> None:
        for byte in head:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    return script


def response(status: str, headers: bytes = b"", body: bytes = b"", length: bool = True) -> bytes:
    size = b"content-length: %d\r\n" % len(body) if length else b""
    return f"HTTP/1.1 {status}\r\n".encode() + headers + size + b"\r\n" + body


async def dead_letter(
    script: Script | bytes,
    delivery: Delivery = ONCE_MORE,
    settings: EventingSettings | None = None,
    data: bytes | None = None,
) -> tuple[int, Record, CloudEvent]:
    """How many requests came, the last record, and the dead letter."""
    async with RawServer(script) as server:
        t = trigger("t", server.url, delivery=delivery)
        async with Stage([t], settings=settings or EventingSettings()) as stage:
            assert (await stage.post(event("1", data))).status_code == 202
            [record] = await stage.until("dead-lettered")
            [dead] = await stage.buried()
            assert stage.status("t")["in_flight"] == 0
            return server.requests, record, dead.event


def explained(dead: CloudEvent) -> tuple[object, object, str]:
    attributes = dead.attributes
    data = base64.b64decode(str(attributes.get("knativeerrordata", "")))
    return attributes["deadletterreason"], attributes["knativeerrorcode"], data.decode("latin-1")


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
    ],
)
async def test_what_never_ends_is_ended_by_the_timeout_of_the_delivery(script: Script) -> None:
    delivery = Delivery(retry=1, backoff_delay_s=0.0, timeout_s=0.1)
    requests, _, dead = await dead_letter(script, delivery)
    assert requests == 2
    assert explained(dead) == ("retries-exhausted", -1, "no answer in time")


async def test_without_a_timeout_a_delivery_waits_and_keeps_its_lease() -> None:
    async with RawServer(hangs) as server, Stage([trigger("t", server.url)]) as stage:
        await stage.post(event("1"))
        await stage.until("delivering")
        await stage.virtual.advance(3600)
        assert stage.status("t")["in_flight"] == 1
        assert server.requests == 1


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
    "an attribute that is no text": (response("200 OK", BINARY + b"ce-x: \xff\xfe\r\n"), "ce-x"),
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
    assert explained(dead) == ("not-an-event", 200, "the reply is larger than 4096 bytes")


async def test_a_compressed_reply_is_not_unpacked_without_a_bound() -> None:
    bomb = gzip.compress(bytes(2**26))
    packed = response("200 OK", BINARY + b"content-encoding: gzip\r\n", bomb)
    _, _, dead = await dead_letter(packed, settings=SMALL)
    assert explained(dead)[0] == "not-an-event"


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
        Stage([trigger("t", server.url)], concurrency=lambda _: 1) as stage,
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
        Stage([trigger("t", server.url)], concurrency=lambda _: 1) as stage,
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
        async with Stage([trigger("t", url, delivery=ONCE_MORE)]) as stage:
            await stage.post(event("1", b"x" * 2**22))
            [record] = await stage.until("dead-lettered")
            assert record.status in (413, None)


async def test_b2_a_reply_cannot_give_itself_a_longer_life() -> None:
    async def immortal(writer: asyncio.StreamWriter) -> None:
        again = BINARY.replace(b"ce-id: 2", b"ce-id: %d" % server.requests)
        writer.write(response("200 OK", again + b"ce-knativebrokerttl: 255\r\n"))

    async with RawServer(immortal) as server, Stage([trigger("t", server.url)]) as stage:
        await stage.post(event("first", knativebrokerttl=6))
        [record] = await stage.until("dead-lettered")
        assert record.event.attributes["deadletterreason"] == "ttl-exhausted"
        assert server.requests == 5


async def test_b6_a_sink_that_hangs_is_given_up_after_the_timeout() -> None:
    async with Subscriber(answer(status=400)) as asked, RawServer(hangs) as sink:
        delivery = Delivery(
            retry=1,
            backoff_delay_s=0.0,
            timeout_s=0.1,
            dead_letter_sink=Destination(uri=sink.url),
        )
        async with Stage([trigger("t", asked.url, delivery=delivery)]) as stage:
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
        async with Stage([trigger("t", asked.url, delivery=delivery)]) as stage:
            await stage.post(event("1"))
            await stage.until("dead-lettered")
            assert stage.memory.buried(BROKER) == 1


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Foo", ""]),
    st.integers(-1, 40),
    st.sampled_from(["Jan", "Dec", "Bar"]),
    st.integers(-1, 100_000),
    *[st.integers(-1, 99)] * 3,
    st.sampled_from(["GMT", "-0000", "+2359", "-9999", "+999999", "EST", ""]),
)


@given(st.text() | DATES | st.integers().map(str) | st.floats().map(str))
def test_b4_no_retry_after_is_an_error(value: str) -> None:

    seconds = retry_after_s(value, datetime(2026, 1, 1, tzinfo=UTC))
    assert seconds is None or seconds >= 0
