"""What real producers send to the Broker, byte for byte, through the server in front of it."""

import asyncio
import gzip
import json
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relume.cloudevents.event import CloudEvent
from relume.eventing.settings import EventingSettings
from relume.plane.server import HttpServer
from relume.web.bodies import DecodedBodies, as_at_broker

from .stage import BrokerStage

CE = "ce-specversion: 1.0\r\nce-id: {id}\r\nce-source: /c\r\nce-type: t\r\n"
H2C = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
)
DATA = b'{"hello": "world"}'
JSON = "Content-Type: application/json\r\n"


@asynccontextmanager
async def broker(**settings: object) -> AsyncIterator[tuple[int, BrokerStage]]:
    listening = socket.create_server(("127.0.0.1", 0))
    async with BrokerStage([], settings=EventingSettings(**settings)) as stage:  # type: ignore[arg-type]
        app = DecodedBodies(stage.plane.app, refusal=as_at_broker)
        server = HttpServer(app, listening, websockets=False)
        serve = asyncio.create_task(server.serve())
        yield int(listening.getsockname()[1]), stage
        server.stop_now()
        await serve


async def post(port: int, headers: str, body: bytes) -> tuple[int, str, dict[str, str]]:
    """Post raw headers and a body; gives the status, the head and the JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /default/b HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(60):
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = answer.partition("content-length: ")[2].partition("\r\n")[0]
        content = await reader.readexactly(int(length or 0))
    writer.close()
    return int(answer.split()[1]), answer, json.loads(content) if content else {}


async def accepted(stage: BrokerStage, count: int = 1) -> list[CloudEvent]:
    return [record.event for record in await stage.until("accepted", count)]


async def test_a_producer_that_offers_an_upgrade_keeps_its_data() -> None:
    member = {"specversion": "1.0", "source": "/c", "type": "t", "data": json.loads(DATA)}
    structured = json.dumps({**member, "id": "s"}).encode()
    batch = json.dumps([{**member, "id": "b1"}, {**member, "id": "b2"}]).encode()
    async with broker() as (port, stage):
        sent = [
            (CE.format(id="1") + JSON, DATA),
            ("Content-Type: application/cloudevents+json\r\n", structured),
            ("Content-Type: application/cloudevents-batch+json\r\n", batch),
        ]
        for headers, body in sent:
            assert (await post(port, H2C + headers, body))[0] == 202
        events = await accepted(stage, 4)
    assert [event.id for event in events] == ["1", "s", "b1", "b2"]
    assert [json.loads(event.data or b"") for event in events] == [json.loads(DATA)] * 4


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param("gzip", gzip.compress(DATA), id="gzip"),
        pytest.param("deflate", zlib.compress(DATA), id="deflate"),
    ],
)
async def test_a_compressed_event_is_delivered_as_it_is_meant(coding: str, body: bytes) -> None:
    headers = f"{CE.format(id='1')}{JSON}Content-Encoding: {coding}\r\n"
    async with broker() as (port, stage):
        assert (await post(port, headers, body))[0] == 202
        [event] = await accepted(stage)
    assert (event.data, event.datacontenttype) == (DATA, "application/json")


@pytest.mark.parametrize("coding", ["br", "zstd"])
async def test_a_coding_that_is_not_decoded_is_refused_with_what_to_send(coding: str) -> None:
    headers = f"{CE.format(id='1')}{JSON}Content-Encoding: {coding}\r\n"
    async with broker() as (port, stage):
        status, head, said = await post(port, headers, DATA)
        assert stage.observer.recent(10) == ()
    assert (status, said["reason"]) == (415, "unsupported-encoding")
    assert "accept-encoding: gzip, deflate" in head
    assert said["error"].startswith(f"Content-Encoding: '{coding}' is not supported")


async def test_the_limit_of_an_event_counts_its_decoded_bytes() -> None:
    headers = f"{CE.format(id='1')}Content-Encoding: gzip\r\n"
    async with broker(max_event_bytes=1000) as (port, _):
        status, _, said = await post(port, headers, gzip.compress(bytes(1001)))
        assert (status, said["reason"]) == (413, "event-too-large")
        status, _, said = await post(port, headers, gzip.compress(bytes(50 * 2**20)))
        assert (status, said["reason"]) == (413, "event-too-large")
        assert (await post(port, headers, gzip.compress(bytes(1000))))[0] == 202


UNENCODED = {
    "a bare percent sign": ("ce-subject: 50%\r\n", "50%"),
    "raw UTF-8": ("ce-subject: Grüße, 世界\r\n", "Grüße, 世界"),
    "an open quote": ('ce-subject: 5" disk\r\n', '5" disk'),
}


@pytest.mark.parametrize(("header", "text"), UNENCODED.values(), ids=UNENCODED)
async def test_a_header_that_is_not_encoded_is_read_as_it_is_meant(header: str, text: str) -> None:
    async with broker() as (port, stage):
        assert (await post(port, CE.format(id="1") + header, DATA))[0] == 202
        [event] = await accepted(stage)
    assert event.subject == text


@pytest.mark.parametrize(("header", "text"), UNENCODED.values(), ids=UNENCODED)
async def test_a_strict_broker_refuses_it(header: str, text: str) -> None:
    async with broker(strict_events=True) as (port, _):
        status, _, said = await post(port, CE.format(id="1") + header, DATA)
        assert (status, said["reason"]) == (400, "invalid-event")
        assert "ce-subject" in said["error"]
