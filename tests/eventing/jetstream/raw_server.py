"""A server that says exactly the bytes it is told to, and what a plane made of them."""

import asyncio
import base64
from collections.abc import Awaitable, Callable

from relume.cloudevents.event import CloudEvent
from relume.config import Delivery
from relume.eventing.observer import Record
from relume.eventing.settings import EventingSettings
from tests.eventing.stage import BrokerStage, event, trigger

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
BINARY = b"ce-specversion: 1.0\r\nce-id: 2\r\nce-source: /s\r\nce-type: reply\r\n"
ONCE_MORE = Delivery(retry=1, backoff_delay_s=0.0)


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
        async with BrokerStage([t], settings=settings or EventingSettings()) as stage:
            assert (await stage.post(event("1", data))).status_code == 202
            [record] = await stage.until("dead-lettered")
            [dead] = await stage.buried()
            assert stage.status("t")["in_flight"] == 0
            return server.requests, record, dead.event


def explained(dead: CloudEvent) -> tuple[object, object, str]:
    attributes = dead.attributes
    data = base64.b64decode(str(attributes.get("knativeerrordata", "")))
    return attributes["deadletterreason"], attributes["knativeerrorcode"], data.decode("latin-1")
