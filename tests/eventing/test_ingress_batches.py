"""Batches at the Broker's door: accepted as a whole or refused as a whole (HTTP binding §3.3)."""

import json
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import encode_batch
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerFull, BrokerKey, DiskFull, StoreUnavailable
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog

from .stage import BROKER, BrokerStage, event

TYPE = ("content-type", "application/cloudevents-batch+json")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def stage() -> AsyncIterator[BrokerStage]:
    settings = EventingSettings(
        max_event_bytes=1000, max_batch_bytes=5000, max_batch_events=5, max_log_events=5
    )
    async with BrokerStage([], settings=settings) as stage:
        await stage.memory.open_broker(BROKER, ["observer"])
        yield stage


async def post(stage: BrokerStage, *events: CloudEvent, **headers: str) -> httpx.Response:
    encoded, body = encode_batch(events)
    return await stage.request("POST", "/default/b", [*encoded, *headers.items()], body)


async def stored(stage: BrokerStage, count: int) -> list[CloudEvent]:
    held = await stage.memory.cursor(BROKER, "observer").fetch(count)
    return [Envelope.unpack(each.payload).event for each in held]


def waiting(stage: BrokerStage) -> int:
    return stage.memory.cursor(BROKER, "observer").waiting


async def test_a_batch_is_accepted_when_all_of_it_is_stored(stage: BrokerStage) -> None:
    response = await post(stage, event("1"), event("2", b'{"a": 1.0}'), event("1"))
    assert (response.status_code, response.content) == (202, b"")
    assert [each.id for each in await stored(stage, 5)] == ["1", "2"]
    [status] = stage.plane.status()["brokers"]
    assert (status["accepted"], status["duplicates"]) == (2, 1)
    stages = [(record.stage, record.event.id) for record in stage.observer.recent(3)]
    assert stages == [("accepted", "1"), ("accepted", "2"), ("duplicate", "1")]


async def test_an_empty_batch_is_accepted_and_stores_nothing(stage: BrokerStage) -> None:
    assert (await post(stage)).status_code == 202
    assert waiting(stage) == 0


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ({"specversion": "1.0", "id": "x", "source": "/s"}, "[1]: type"),
        ({"specversion": "1.0", "id": "", "source": "/s", "type": "t"}, "[1]: id"),
        ("text", "[1]: an event must be a JSON object"),
        (
            {"specversion": "1.0", "id": "x", "source": "/", "type": "t", "knativebrokerttl": "1"},
            "[1]: knativebrokerttl",
        ),
    ],
)
async def test_one_malformed_event_refuses_the_batch_and_is_named(
    stage: BrokerStage, member: object, words: str
) -> None:
    good = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    body = json.dumps([good, member, {**good, "id": "3"}]).encode()
    response = await stage.request("POST", "/default/b", [TYPE], body)
    assert response.status_code == 400
    assert words in response.json()["error"]
    assert waiting(stage) == 0


async def test_a_batch_of_too_many_events_or_bytes_is_refused(stage: BrokerStage) -> None:
    many = await post(stage, *(event(str(number)) for number in range(6)))
    assert (many.status_code, many.json()["reason"]) == (413, "batch-too-large")
    large = await post(stage, *(event(str(number), bytes(900)) for number in range(5)))
    assert (large.status_code, large.json()["reason"]) == (413, "event-too-large")
    one_large = await post(stage, event("1"), event("2", bytes(1001)))
    assert (one_large.status_code, one_large.json()["reason"]) == (413, "event-too-large")
    assert "[1]" in one_large.json()["error"]
    assert waiting(stage) == 0
    assert (await post(stage, *(event(str(number)) for number in range(5)))).status_code == 202


async def test_the_trace_of_the_request_goes_on_in_each_event_that_has_none(
    stage: BrokerStage,
) -> None:
    own = TRACEPARENT.replace("b7ad", "c8be")
    await post(stage, event("1"), event("2", traceparent=own), traceparent=TRACEPARENT)
    found = [each.attributes["traceparent"] for each in await stored(stage, 2)]
    assert found == [TRACEPARENT, own]


async def test_a_store_that_fails_half_way_is_a_503_and_the_batch_may_be_sent_again(
    stage: BrokerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MemoryLog.append_all

    async def half(
        self: MemoryLog, broker: BrokerKey, envelopes: Sequence[Envelope], patience_s: float
    ) -> Sequence[bool]:
        await whole(self, broker, envelopes[:1], patience_s)
        raise StoreUnavailable("nats-server is not running")

    monkeypatch.setattr(MemoryLog, "append_all", half)
    response = await post(stage, event("1"), event("2"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    monkeypatch.undo()
    assert (await post(stage, event("1"), event("2"))).status_code == 202
    assert [each.id for each in await stored(stage, 5)] == ["1", "2"]


async def test_a_full_broker_says_when_to_come_back_and_a_full_disk_says_so(
    stage: BrokerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await post(stage, *(event(str(number)) for number in range(5)))).status_code == 202
    for response in (await post(stage, event("6")), await stage.post(event("6"))):
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert response.json()["reason"] == "broker-full"
    for held in await stage.memory.cursor(BROKER, "observer").fetch(5):
        await held.settle()
    assert (await stage.post(event("6"))).status_code == 202

    async def full(self: MemoryLog, broker: BrokerKey) -> None:
        raise DiskFull("0 bytes are left")

    monkeypatch.setattr(MemoryLog, "admit", full)
    response = await stage.post(event("7"))
    assert (response.status_code, response.json()["reason"]) == (507, "disk-full")
    assert BrokerFull.retryable


async def test_a_producer_that_goes_away_half_way_stores_nothing(stage: BrokerStage) -> None:
    messages: list[dict[str, object]] = [
        {"type": "http.request", "body": b"[", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: object) -> None:
        raise AssertionError(f"nobody is there to read {message}")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/default/b",
        "headers": [(TYPE[0].encode(), TYPE[1].encode())],
    }
    await stage.plane.app(scope, receive, send)
    assert waiting(stage) == 0
