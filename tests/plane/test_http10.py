"""Clients of HTTP/1.0 on a real socket: no chunks, whatever the length of the answer."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from relume.plane.server import HttpServer


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
        yield b""

    return StreamingResponse(events(), media_type="text/event-stream")


async def chunked(request: Request) -> Response:
    """An application that names the coding itself."""
    response = await stream(request)
    response.headers["transfer-encoding"] = "chunked"
    return response


async def echo(request: Request) -> Response:
    return JSONResponse({"sent": (await request.body()).decode()})


async def nothing(request: Request) -> Response:
    return StreamingResponse(iter(()), status_code=204)


APP = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/chunked", chunked),
        Route("/echo", echo, methods=["POST"]),
        Route("/nothing", nothing),
    ]
)
EVENTS = b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = HttpServer(APP, listening)
        serving = asyncio.create_task(server.serve())
        yield listening.getsockname()[1]
        server.stop_now()
        await serving


async def answer(port: int, head: str, body: bytes = b"") -> tuple[str, bytes]:
    """Head and body of what comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
    async with asyncio.timeout(60):
        got = await reader.read()
    writer.close()
    found, _, rest = got.partition(b"\r\n\r\n")
    return found.decode().lower(), rest


@pytest.mark.parametrize("path", ["/stream", "/chunked"])
async def test_a_body_without_a_length_ends_with_the_connection(port: int, path: str) -> None:
    head, body = await answer(port, f"GET {path} HTTP/1.0\n")
    assert head.startswith("http/1.1 200")
    assert "transfer-encoding" not in head
    assert "connection: close" in head
    assert body == EVENTS


async def test_a_body_of_known_length_keeps_it(port: int) -> None:
    head, body = await answer(port, "POST /echo HTTP/1.0\nContent-Length: 2\n", b"hi")
    assert "content-length: 13" in head
    assert body == b'{"sent":"hi"}'


@pytest.mark.parametrize(
    ("method", "path", "status"), [("HEAD", "/stream", 200), ("GET", "/nothing", 204)]
)
async def test_an_answer_without_a_body_has_none(
    port: int, method: str, path: str, status: int
) -> None:
    head, body = await answer(port, f"{method} {path} HTTP/1.0\n")
    assert head.startswith(f"http/1.1 {status}")
    assert "transfer-encoding" not in head
    assert body == b""


async def test_no_interim_answer_is_sent(port: int) -> None:
    request = "POST /echo HTTP/1.0\nExpect: 100-continue\nContent-Length: 2\n"
    head, _ = await answer(port, request, b"hi")
    assert head.startswith("http/1.1 200")


async def test_http_1_1_gets_chunks_as_before(port: int) -> None:
    head, body = await answer(port, "GET /stream HTTP/1.1\nHost: x\nConnection: close\n")
    assert "transfer-encoding: chunked" in head
    assert body == b"9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"
