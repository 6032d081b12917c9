"""The port of the predictor, as vLLM serves it: offers to upgrade, coded bodies, raw headers."""

import asyncio
import gzip
import json
from typing import Any

import pytest
from event_client import EVENT, chat_data
from stub_vllm import MODEL, Stub
from test_events_life import CHAT, serving
from test_gatekeeper import Loading, post

H2C = {
    "connection": "Upgrade, HTTP2-Settings",
    "upgrade": "h2c",
    "http2-settings": "AAMAAABkAAQAoAAAAAIAAAAA",
}
ASK = json.dumps(chat_data("hello", model=MODEL)).encode()
EVENT_HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}


async def asked(
    stub: Stub, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, dict[str, str], Any]:
    """Post over the wire; gives status, headers and JSON of the answer."""
    fields = {"host": "x", "content-type": "application/json", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in (fields | headers).items())
    async with serving(stub) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        async with asyncio.timeout(60):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            found = dict(line.split(": ", 1) for line in lines[1:] if line)
            content = await reader.readexactly(int(found["content-length"]))
        writer.close()
    return int(lines[0].split()[1]), found, json.loads(content)


@pytest.mark.parametrize(("path", "more"), [(CHAT, {}), ("/", EVENT_HEADERS)])
async def test_an_offer_to_upgrade_is_ignored(
    process: None, stub: Stub, path: str, more: dict[str, str]
) -> None:
    status, _, _ = await asked(stub, path, ASK, H2C | more)
    assert status == 200
    assert [each.body["messages"] for each in stub.asked] == [chat_data("hello")["messages"]]


@pytest.mark.parametrize(("path", "more"), [(CHAT, {}), ("/", EVENT_HEADERS)])
async def test_a_compressed_body_is_decoded(
    process: None, stub: Stub, path: str, more: dict[str, str]
) -> None:
    coded = {"content-encoding": "gzip"} | more
    status, _, _ = await asked(stub, path, gzip.compress(ASK), coded)
    assert status == 200
    assert [each.body["messages"] for each in stub.asked] == [chat_data("hello")["messages"]]


@pytest.mark.parametrize(("path", "more"), [(CHAT, {}), ("/", EVENT_HEADERS)])
async def test_another_coding_is_refused(
    process: None, stub: Stub, path: str, more: dict[str, str]
) -> None:
    status, headers, said = await asked(stub, path, b"x", {"content-encoding": "br"} | more)
    assert (status, headers["accept-encoding"]) == (415, "gzip, deflate")
    assert said["error"]["message"].startswith("Content-Encoding: 'br' is not supported")
    assert stub.asked == []


async def test_an_event_that_grows_beyond_the_limit_is_413(
    process: None, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relume.runtimes.middleware.MAX_EVENT_BYTES", 1000)
    coded = {"content-encoding": "gzip"} | EVENT_HEADERS
    status, _, said = await asked(stub, "/", gzip.compress(bytes(10_000_000)), coded)
    assert (status, said["reason"]) == (413, "too-large")


async def test_an_event_whose_headers_are_not_encoded_is_answered(
    process: None, stub: Stub
) -> None:
    status, headers, _ = await asked(stub, "/", ASK, EVENT_HEADERS | {"ce-id": "50% für 世界"})
    assert status == 200
    assert headers["ce-causationid"] == "50%25%20f%c3%bcr%20%e4%b8%96%e7%95%8c"


def test_the_gatekeeper_answers_a_request_that_offers_an_upgrade() -> None:
    loading = Loading("tcp").started()
    try:
        offer = [f"{name}: {value}" for name, value in H2C.items()]
        answer = loading.ask(post(CHAT, ASK, *offer, f"content-length: {len(ASK)}"))
        assert (answer.status, json.loads(answer.body)["reason"]) == (503, "loading")
    finally:
        loading.end()
