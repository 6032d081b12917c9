"""A subscriber in a process of its own: answers 204 to every event and counts them.

    python event_sink.py PORT

`GET` answers a JSON object: `deliveries`, and `distinct` by the number in the id.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

_NUMBERS = 64 * 1024 * 1024  # one bit each: 8 MB
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


class Count:
    """Deliveries, and which numbers came."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.distinct = 0
        self._seen = bytearray(_NUMBERS // 8)

    def take(self, number: int) -> None:
        self.deliveries += 1
        at, bit = number >> 3, 1 << (number & 7)
        if not self._seen[at] & bit:
            self._seen[at] |= bit
            self.distinct += 1

    def report(self) -> bytes:
        body = json.dumps({"deliveries": self.deliveries, "distinct": self.distinct}).encode()
        return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )


class Subscriber(asyncio.Protocol):
    """One connection; requests come whole or in pieces, one after the other."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head_end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:head_end].lower()
            if head.startswith(b"get"):
                self._transport.write(self._count.report())
                return self._transport.close()
            end = head_end + 4 + int(_header(head, b"content-length") or 0)
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._count.take(int(_header(head, b"ce-id")))
            self._transport.write(_NO_CONTENT)


def _header(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


async def serve(port: int) -> None:
    count = Count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Subscriber(count), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
