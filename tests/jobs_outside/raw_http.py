"""HTTP requests of any bytes: the clients of Python refuse to send what a hostile one sends."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer; `status` is 0 where the server has closed the connection without one."""

    status: int
    head: bytes
    body: bytes

    @property
    def job(self) -> str:
        """The id of the job that the answer names in `Location`."""
        line = next(
            each for each in self.head.split(b"\r\n") if each.lower().startswith(b"location")
        )
        return line.rpartition(b"/")[2].decode()

    def json(self) -> Any:
        return json.loads(self.body)


async def raw(
    port: int, method: bytes, path: bytes, headers: Sequence[bytes] = (), body: bytes = b""
) -> Raw:
    """Send one request as it is given; each of `headers` is a whole line without its end."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: gateway", b"Connection: close"]
    lines += [*headers, b"Content-Length: %d" % len(body)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        async with asyncio.timeout(_WITHIN_S):
            answer = await reader.read()
    except ConnectionError:
        answer = b""
    finally:
        writer.transport.abort()
    head, _, rest = answer.partition(b"\r\n\r\n")
    first = head.split(b"\r\n")[0].split(b" ")
    return Raw(int(first[1]) if len(first) > 1 else 0, head, rest)
