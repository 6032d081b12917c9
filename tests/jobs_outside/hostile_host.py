"""A host on the internet that an event refers to, and what lies behind it on private addresses.

Both listen on one port: the host on an address that the gateway takes for a public one, the private
server on 127.0.0.1. Whoever reaches the private server has fetched what it must not fetch.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.ports import own_port

PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"
GIB = 1024**3
ENDLESS_BYTES = 10 * GIB
_PIECE = b"x" * (256 * 1024)


@dataclass
class Host:
    """`sent` has the bytes that each request for the endless data was sent."""

    port: int
    sent: list[int] = field(default_factory=list)
    intruders: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/redirect":
                return web.Response(status=302, headers={"Location": request.query["to"]})
            case "/declared":
                return await self._stream(request, declared=True)
            case "/endless":
                return await self._stream(request, declared=False)
        return web.Response(body=request.query["body"].encode(), content_type="application/json")

    async def intrude(self, request: web.Request) -> web.StreamResponse:
        self.intruders.append(str(request.url))
        return web.Response(text="the secret")

    async def _stream(self, request: web.Request, *, declared: bool) -> web.StreamResponse:
        response = web.StreamResponse()
        if declared:
            response.content_length = ENDLESS_BYTES
        number = len(self.sent)
        self.sent.append(0)
        await response.prepare(request)
        while self.sent[number] < ENDLESS_BYTES:
            await response.write(_PIECE)
            self.sent[number] += len(_PIECE)
        return response


@asynccontextmanager
async def hostile_host() -> AsyncIterator[Host]:
    """Both servers, from their start to their end."""
    host = Host(own_port())
    runners = []
    for address, answer in ((PUBLIC, host.answer), (PRIVATE, host.intrude)):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, address, host.port).start()
        runners.append(runner)
    yield host
    await asyncio.gather(*(runner.cleanup() for runner in runners))
