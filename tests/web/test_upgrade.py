"""An offer to upgrade that is not taken is ignored, and nothing of its request is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from served import H2C, Echo, answers, serving
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket

BODY = b'{"hello": "world"}'


def request(offer: bytes, body: bytes = BODY, *, path: str = "/a", chunked: bool = False) -> bytes:
    head = f"POST {path}?q=1 HTTP/1.1\r\nHost: x\r\nX-One: 1\r\n".encode() + offer
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    middle = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (body[:middle], body[middle:]) if c)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


OFFERS = {
    "h2c": H2C,
    "in other letters": b"CONNECTION: upgrade\r\nUPGRADE: H2C\r\n",
    "TLS": b"Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
    "several tokens": b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, IRC/6.9, websocket\r\n",
    "a WebSocket that is posted": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "an unknown token": b"Connection: Upgrade\r\nUpgrade: x\r\n",
    "two headers": b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: foo/2\r\n",
    "without a Connection": b"Upgrade: h2c\r\n",
    "with an expectation": H2C + b"Expect: 100-continue\r\n",
}


@pytest.fixture
async def echo() -> AsyncIterator[tuple[int, Echo]]:
    app = Echo()
    async with serving(app) as port:
        yield port, app


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("cut", ["whole", "behind the head", "every byte"])
async def test_the_body_arrives(
    echo: tuple[int, Echo], offer: bytes, chunked: bool, cut: str
) -> None:
    sent = request(offer, chunked=chunked)
    parts = {
        "whole": [sent],
        "behind the head": [*sent.partition(b"\r\n\r\n")],
        "every byte": [sent[at : at + 1] for at in range(len(sent))],
    }[cut]
    pause_s = 0.02 if cut == "behind the head" else 0.0
    [(status, _, said)] = await answers(echo[0], *parts, pause_s=pause_s)
    assert (status, said["method"], said["path"]) == (200, "POST", "/a")
    assert said["body"] == BODY.decode()
    assert said["headers"]["x-one"] == "1"
    assert len(echo[1].asked) == 1


async def test_an_expectation_beside_an_offer_is_met(echo: tuple[int, Echo]) -> None:
    head, end, body = request(OFFERS["with an expectation"]).partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", echo[0])
    writer.write(head + end)
    async with asyncio.timeout(60):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).split()[1] == b"200"
    writer.close()


async def test_a_body_that_looks_like_a_request_is_a_body(echo: tuple[int, Echo]) -> None:
    inner = request(b"", path="/inner")
    [(_, _, said)] = await answers(echo[0], request(H2C, inner))
    assert said["body"].encode() == inner
    await asyncio.sleep(0.05)
    assert [each["path"] for each in echo[1].asked] == ["/a"]


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
async def test_requests_behind_it_on_the_connection_are_answered(
    echo: tuple[int, Echo], chunked: bool
) -> None:
    paths = [f"/{number}" for number in range(20)]
    offers = [H2C, b"", H2C, OFFERS["TLS"]] * 5
    sent = [
        request(offer, path.encode(), path=path, chunked=chunked)
        for path, offer in zip(paths, offers, strict=True)
    ]
    found = await answers(echo[0], b"".join(sent), number=20)
    assert [said["path"] for _, _, said in found] == paths
    assert [said["body"] for _, _, said in found] == paths


async def test_a_large_body_behind_an_offer_arrives(echo: tuple[int, Echo]) -> None:
    body = bytes(range(256)) * 8000
    [(_, _, said)] = await answers(echo[0], request(H2C, body))
    assert said["body"].encode("latin-1") == body


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
async def test_a_request_without_a_body_is_answered(echo: tuple[int, Echo], method: str) -> None:
    sent = f"{method} /b HTTP/1.1\r\nHost: x\r\n".encode() + H2C + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", echo[0])
    writer.write(sent)
    async with asyncio.timeout(60):
        assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    assert echo[1].asked[0]["method"] == method


async def test_the_offer_itself_is_not_seen_by_the_application(echo: tuple[int, Echo]) -> None:
    [(_, _, said)] = await answers(echo[0], request(H2C))
    assert not {"upgrade", "http2-settings"} & set(said["headers"])


async def test_version_1_0_has_no_upgrade(echo: tuple[int, Echo]) -> None:
    sent = request(OFFERS["h2c"]).replace(b" HTTP/1.1", b" HTTP/1.0")
    [(status, headers, said)] = await answers(echo[0], sent)
    assert (status, said["body"], headers["connection"]) == (200, BODY.decode(), "close")


async def test_a_tunnel_is_refused(echo: tuple[int, Echo]) -> None:
    sent = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n" + request(b"")
    [(status, _, _)] = await answers(echo[0], sent)
    assert status == 400
    assert not echo[1].asked


@asynccontextmanager
async def _talking(*, websockets: bool) -> AsyncIterator[tuple[int, Echo]]:
    async def shout(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text((await websocket.receive_text()).upper())
        await websocket.close()

    echo = Echo()
    routes: list[Any] = [WebSocketRoute("/ws", shout), Mount("/", echo)]
    async with serving(Starlette(routes=routes), websockets=websockets) as port:
        yield port, echo


async def test_a_websocket_is_taken() -> None:
    async with (
        _talking(websockets=True) as (port, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{port}/ws") as socket,
    ):
        await socket.send_str("hello")
        assert await socket.receive_str() == "HELLO"


HANDSHAKE = (
    b"GET /c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_where_no_websocket_is_spoken_its_handshake_is_a_request() -> None:
    async with _talking(websockets=False) as (port, echo):
        [(status, _, _)] = await answers(port, HANDSHAKE)
        assert (status, echo.asked[0]["method"]) == (200, "GET")


async def test_http_2_without_an_offer_is_refused_by_name(echo: tuple[int, Echo]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo[0])
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert b"this port speaks HTTP/1.1" in answer


async def test_behind_a_request_without_an_answer_a_handshake_is_a_request() -> None:
    async with _talking(websockets=True) as (port, echo):
        before = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
        found = await answers(port, before + HANDSHAKE, number=2)
        assert [status for status, _, _ in found] == [200, 200]
        assert [said["path"] for said in echo.asked] == ["/b", "/c"]
