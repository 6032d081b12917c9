"""A server of ours around an ASGI app, and clients that write bytes as they are given."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relume.plane.server import HttpServer
from relume.web.bodies import DecodedBodies

H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
)


@asynccontextmanager
async def serving(app: ASGIApp, *, websockets: bool = True) -> AsyncIterator[int]:
    """The app behind our server; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(DecodedBodies(app), listening, websockets=websockets)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        yield int(listening.getsockname()[1])
        server.stop_now()


class Echo:
    """An app that answers with what it was asked: method, path, headers and body, as JSON."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, message = b"", Message
        message = await receive()
        while message["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
            message = await receive()
        if message["type"] == "http.disconnect":
            self.gone.set()
            return
        said = {
            "method": scope["method"],
            "path": scope["path"],
            "headers": {n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"]},
            "body": body.decode("latin-1"),
        }
        self.asked.append(said)
        content = json.dumps(said).encode()
        length = str(len(content)).encode()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": content})


async def answers(port: int, *parts: bytes, number: int = 1, pause_s: float = 0.0) -> list[Any]:
    """The statuses and JSON bodies of the first `number` answers to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause_s)
            return [await answer(reader) for _ in range(number)]
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """The next final answer: status, headers in lower case, and its body as JSON."""
    status = 100
    while status == 100:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1])
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return status, headers, json.loads(body) if body.startswith(b"{") else body
