"""A predictor without a model, as cheap as one can be, for the benchmark of the activator.

    python activator_stub.py PORT

GET /health answers 200. POST /v1/completions answers with a short JSON object at once. POST
/stream?n=N&gap=S answers with N server-sent events, S seconds apart, each of which holds the moment
at which it was written in seconds of the monotonic clock.
"""

import asyncio
import sys
import time
from typing import cast
from urllib.parse import parse_qs, urlsplit

import uvloop

ANSWER = b'{"object":"text_completion","choices":[{"index":0,"text":" a short answer"}]}'
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Stub(asyncio.Protocol):
    """One connection; requests come one after the other, with a Content-Length."""

    def __init__(self) -> None:
        self._buffer = b""
        self._streaming: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            _, found, after = head.partition(b"content-length:")
            size = int(after.split(b"\r\n", 1)[0]) if found else 0
            if len(self._buffer) < end + 4 + size:
                return
            self._buffer = self._buffer[end + 4 + size :]
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, target: str) -> None:
        parts = urlsplit(target)
        if parts.path != "/stream":
            self._transport.write(_JSON)
            return
        asked = parse_qs(parts.query)
        count, gap = int(asked["n"][0]), float(asked["gap"][0])
        self._transport.write(_STREAM)
        self._streaming = asyncio.ensure_future(self._stream(count, gap))

    async def _stream(self, count: int, gap: float) -> None:
        for _ in range(count):
            event = b"data: %.6f\n\n" % time.monotonic()
            self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(gap)
        self._transport.write(b"0\r\n\r\n")

    def connection_lost(self, error: Exception | None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
