"""The Broker's door (B1 and B2)."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping

import pytest
from starlette.types import Message

from relume.cloudevents.http import Mode, encode
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog

from .stage import BROKER, BrokerStage, event, trigger

BINARY, _ = encode(event("1"), Mode.BINARY)


@pytest.fixture
async def stage() -> AsyncIterator[BrokerStage]:
    async with BrokerStage([], settings=EventingSettings(max_event_bytes=1000)) as stage:
        yield stage


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
async def test_an_event_is_accepted_in_binary_and_in_structured_mode(
    stage: BrokerStage, mode: Mode
) -> None:
    response = await stage.post(event("1", b"x", datacontenttype="text/plain"), mode)
    assert (response.status_code, response.content) == (202, b"")
    [record] = await stage.until("accepted")
    assert record.event.id == "1"
    assert stage.plane.status()["brokers"] == [
        {
            "namespace": "default",
            "name": "b",
            "url": "http://broker/default/b",
            "profile": "strict",
            "accepted": 1,
            "duplicates": 0,
            "dead_letters": 0,
        }
    ]


@pytest.mark.parametrize("path", ["/default/b", "/", "/what/ever/it/is"])
async def test_options_grants_everybody(stage: BrokerStage, path: str) -> None:
    response = await stage.request("OPTIONS", path)
    assert response.status_code == 200
    assert response.headers["allow"] == "POST, OPTIONS"
    assert response.headers["webhook-allowed-origin"] == "*"
    assert response.headers["webhook-allowed-rate"] == "*"
    assert "application/cloudevents-batch+json" in response.headers["accept-post"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH"])
async def test_other_methods_are_not_allowed(stage: BrokerStage, method: str) -> None:
    response = await stage.request(method, "/default/b")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/default", 400),
        ("/default/b/c", 400),
        ("/default/unknown", 404),
        ("/other/b", 404),
        ("/default/b/", 202),
        ("/default/b?x=y", 202),
    ],
)
async def test_the_path_names_the_broker(stage: BrokerStage, path: str, status: int) -> None:
    assert (await stage.request("POST", path, BINARY)).status_code == status


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ([], b"hello", "not a CloudEvent"),
        ([("content-type", "application/json")], b"{}", "not a CloudEvent"),
        (BINARY[1:], b"", "specversion"),
        ([("ce-specversion", "1.0"), ("ce-id", "1")], b"", "source"),
        ([("ce-specversion", "7"), *BINARY[1:]], b"", "specversion"),
        ([("content-type", "application/cloudevents+json")], b"{", "JSON"),
        ([*BINARY, ("ce-knativebrokerttl", "1")], b"", "knativebrokerttl"),
        ([*BINARY, ("ce-knativebrokerttl", "0")], b"", "knativebrokerttl"),
    ],
)
async def test_a_malformed_event_is_refused_with_the_reason(
    stage: BrokerStage, headers: list[tuple[str, str]], body: bytes, reason: str
) -> None:
    response = await stage.request("POST", "/default/b", headers, body)
    assert response.status_code == 400
    assert reason in response.json()["error"]
    assert response.json()["reason"] in ("invalid-event", "ttl-exhausted")


async def test_version_0_3_is_accepted(stage: BrokerStage) -> None:
    headers = [("ce-specversion", "0.3"), *[h for h in BINARY if h[0] != "ce-specversion"]]
    assert (await stage.request("POST", "/default/b", headers)).status_code == 202


async def test_an_event_that_is_too_large_is_refused(stage: BrokerStage) -> None:
    response = await stage.request("POST", "/default/b", BINARY, bytes(1001))
    assert (response.status_code, response.json()["reason"]) == (413, "event-too-large")
    assert (await stage.request("POST", "/default/b", BINARY, bytes(1000))).status_code == 202


async def test_a_large_event_without_a_length_is_refused_too(stage: BrokerStage) -> None:
    sent = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": bytes(600), "more_body": True}

    async def send(message: MutableMapping[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/default/b",
        "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in BINARY],
    }
    async with asyncio.timeout(60):
        await stage.plane.app(scope, receive, send)
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(("incoming", "stored"), [(None, 255), ("junk", 255), (255, 254), (2, 1)])
async def test_the_time_to_live_goes_down_on_every_way_through(
    incoming: object, stored: int
) -> None:
    async with BrokerStage([trigger("t", "http://127.0.0.1:1/")]) as stage:
        extension = {} if incoming is None else {"knativebrokerttl": incoming}
        await stage.memory.open_broker(BROKER, ["observer"])
        await stage.post(event("1", **extension))
        [held] = await stage.memory.cursor(BROKER, "observer").fetch(1)
        attributes = Envelope.unpack(held.payload).event.attributes
        assert attributes["knativebrokerttl"] == stored
        assert attributes["knativearrivaltime"] == "2026-01-01T00:00:00.000Z"


async def test_nothing_is_accepted_that_was_not_stored(
    stage: BrokerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(self: MemoryLog, broker: BrokerKey, envelope: Envelope, patience: float) -> bool:
        raise StoreUnavailable("nats-server is not running")

    monkeypatch.setattr(MemoryLog, "append", down)
    response = await stage.post(event("1"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["reason"] == "store-unavailable"
    assert stage.observer.recent(10) == ()


async def test_a_request_that_does_not_come_to_its_end_is_cut_off() -> None:
    sent: list[Message] = []

    async def never() -> Message:
        return await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"ce-specversion", b"1.0"), (b"content-length", b"10")]
    scope = {"type": "http", "method": "POST", "path": "/default/b", "headers": headers}
    async with BrokerStage([], settings=EventingSettings(upload_s=0.01)) as stage:
        await stage.plane.app(scope, never, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
