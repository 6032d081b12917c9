"""Clients of the activator in a process of their own, on the bare protocol.

    python activator_load.py closed URL CLIENTS SECONDS    each asks again when it was answered
    python activator_load.py streams URL CLIENTS N GAP     each reads one stream of N events

Prints one JSON object. closed: requests, seconds, p50_ms and p99_ms of an answer. streams: streams
that came to their end, events, and how long an event took from the predictor to the reader (p50_ms,
p99_ms), its first one too (first_p50_ms). The clients keep off the core of what is measured.
"""

import asyncio
import json
import os
import re
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

BODY = b'{"model":"model","prompt":"%b","max_tokens":16}' % (b"x" * 200)
_HEAD = (
    b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
    b"user-agent: load\r\naccept: */*\r\ncontent-length: %d\r\n\r\n%b"
)
_EVENT = re.compile(rb"data: ([0-9.]+)\n\n")
_WITHIN_S = 120.0


def request(url: str) -> bytes:
    """The bytes of a request for this URL."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return _HEAD % (target.encode(), parts.netloc.encode(), len(BODY), BODY)


class Asking(asyncio.Protocol):
    """A client that asks, waits for the answer, and asks again, until it is `until`."""

    def __init__(self, asked: bytes, until: float, took_ms: list[float]) -> None:
        self._asked = asked
        self._until = until
        self._took_ms = took_ms
        self._buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._sent = time.monotonic()
        self._transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {self._buffer[:300]!r}")
        if not body.endswith(b"]}") and not body.endswith(b"0\r\n\r\n"):
            return
        now = time.monotonic()
        self._took_ms.append((now - self._sent) * 1000)
        self._buffer = b""
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)


class Reading(asyncio.Protocol):
    """A client that reads one stream to its end."""

    def __init__(self, asked: bytes, took_ms: list[float], first_ms: list[float]) -> None:
        self._asked = asked
        self._took_ms = took_ms
        self._first_ms = first_ms
        self._left = b""
        self._events = 0
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        now, text = time.monotonic(), self._left + data
        end = 0
        for event in _EVENT.finditer(text):
            end, took = event.end(), (now - float(event[1])) * 1000
            if self._events == 0:
                self._first_ms.append(took)
            self._events += 1
            self._took_ms.append(took)
        self._left = text[end:]
        if self._left.endswith(b"0\r\n\r\n"):
            self._transport.close()
            self.done.set_result(True)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(False)


async def closed(url: str, clients: int, seconds: float) -> dict[str, float]:
    parts, loop, took_ms = urlsplit(url), asyncio.get_running_loop(), list[float]()
    began, asked = time.monotonic(), request(url)
    pairs = [
        await loop.create_connection(
            lambda: Asking(asked, began + seconds, took_ms), parts.hostname, parts.port
        )
        for _ in range(clients)
    ]
    async with asyncio.timeout(seconds + _WITHIN_S):
        await asyncio.gather(*(client.done for _, client in pairs))
    return {"requests": len(took_ms), "seconds": time.monotonic() - began, **_percentiles(took_ms)}


async def streams(url: str, clients: int, count: int, gap: float) -> dict[str, float]:
    parts, loop = urlsplit(url), asyncio.get_running_loop()
    took_ms, first_ms = list[float](), list[float]()
    asked = request(f"{url}?n={count}&gap={gap:g}")
    pairs = [
        await loop.create_connection(
            lambda: Reading(asked, took_ms, first_ms), parts.hostname, parts.port
        )
        for _ in range(clients)
    ]
    async with asyncio.timeout(count * gap + _WITHIN_S):
        ended = await asyncio.gather(*(client.done for _, client in pairs))
    found = _percentiles(took_ms)
    first = _percentiles(first_ms)["p50_ms"]
    return {"streams": sum(ended), "events": len(took_ms), "first_p50_ms": first, **found}


def _percentiles(took_ms: list[float]) -> dict[str, float]:
    times = sorted(took_ms)
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[int(len(times) * 0.99)]}


def main() -> None:
    kind, url, clients, *rest = sys.argv[1:]
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, cores - {min(cores)})
    work = (
        closed(url, int(clients), float(rest[0]))
        if kind == "closed"
        else streams(url, int(clients), int(rest[0]), float(rest[1]))
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(work), sys.stdout)


if __name__ == "__main__":
    main()
