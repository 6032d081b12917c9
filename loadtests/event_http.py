"""The HTTP ceiling: what a Broker would cost if it were nothing but its HTTP.

    python event_http.py PORT SUBSCRIBER_URL

Takes an event with the server of the plane, posts it to the subscriber with the client of the
plane, waits for that answer and answers 202: no Broker between. It runs with the interpreter of
either checkout, so it takes whichever client that checkout has.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable

import uvloop
from starlette.types import Receive, Scope, Send

from relume.eventing.delivery.courier import Subscribers
from relume.plane.server import HttpServer

Headers = list[tuple[str, str]]
Post = Callable[[Headers, bytes], Awaitable[None]]
_REPLY_BYTES = 1024 * 1024
_LEFT_OUT = frozenset({b"host", b"content-length"})


class Relay:
    """The ASGI application."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        if scope["method"] == "POST":
            headers = [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in scope["headers"]
                if name not in _LEFT_OUT
            ]
            await self._post(headers, b"".join(parts))
        await send({"type": "http.response.start", "status": 202, "headers": _NO_BODY})
        await send({"type": "http.response.body", "body": b""})


_NO_BODY = [(b"content-length", b"0")]


def client(subscribers: Subscribers, url: str) -> Post:
    """Posts with the client that the plane of this checkout delivers with.

    It is taken from inside the plane's own class: what that adds is a Broker's work. Raises
    SystemExit where the client is of a kind that is not known here.
    """
    session = getattr(subscribers, "_session", None)
    connections = getattr(subscribers, "_connections", None)

    async def with_aiohttp(headers: Headers, body: bytes) -> None:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            await answer.read()

    async def with_connections(headers: Headers, body: bytes) -> None:
        await connections.post(url, headers, body, lambda _: _REPLY_BYTES)

    if session is not None:
        return with_aiohttp
    if connections is not None:
        return with_connections
    raise SystemExit("the client of Subscribers is of no known kind: add it to event_http.client")


async def serve(port: int, url: str) -> None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    async with Subscribers(_REPLY_BYTES) as subscribers:
        relay = Relay(client(subscribers, url))
        await HttpServer(relay, listening, websockets=False).serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), sys.argv[2]))
