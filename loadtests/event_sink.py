"""A subscriber in a process of its own: answers 204 to every event, and notes when it came.

    python event_sink.py PORT

`GET /` answers a JSON object: `deliveries`, and `distinct` by the number in the id.
`GET /arrivals/FIRST/COUNT` answers the moments at which these numbers came first, in seconds of the
monotonic clock, as native doubles; 0 for a number that did not come.
"""

import asyncio
import json
import sys
import time
from array import array
from typing import cast

import uvloop

_MORE = array("d", bytes(8 * 65_536))  # room for so many numbers more
_NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"


class Count:
    """Deliveries, and when each number came first."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.distinct = 0
        self._arrived = array("d")

    def take(self, number: int) -> None:
        self.deliveries += 1
        arrived = self._arrived
        while number >= len(arrived):
            arrived.extend(_MORE)
        if not arrived[number]:
            arrived[number] = time.monotonic()
            self.distinct += 1

    def answer(self, path: str) -> bytes:
        """The body for a GET."""
        _, _, of = path.partition("/arrivals/")
        if not of:
            counted = {"deliveries": self.deliveries, "distinct": self.distinct}
            return json.dumps(counted).encode()
        first, count = map(int, of.split("/"))
        found = self._arrived[first : first + count]
        return found.tobytes() + bytes(8 * (count - len(found)))


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
                body = self._count.answer(head.split(b" ", 2)[1].decode())
                self._transport.write(_ANSWER % len(body) + body)
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
