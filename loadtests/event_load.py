"""Producers of events in a process of their own: post, wait for the answer, post the next.

    python event_load.py URL --producers 64 --seconds 60 --first 0 [--batch 100] [--count N]

Written on the bare protocol, because it runs on the cores of what it measures. Each event has
1 KiB of JSON data and its number as id. Prints one JSON object: events, requests, seconds, the
next free number, CPU seconds, and the milliseconds of an answer (p50, p99, longest).
"""

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

DATA_BYTES = 1024
_ACCEPTED = b"HTTP/1.1 202"
DATA = b'{"prompt":"%s"}' % (b"x" * (DATA_BYTES - 13))
_EVENT = b'{"specversion":"1.0","id":"%d","source":"/bench","type":"bench.event","data":%b}'


@dataclass(slots=True)
class Load:
    """What is to be posted, and how it went."""

    until: float
    first: int
    count: int | None
    make: Callable[[int], bytes]
    batch: int = 1
    requests: int = 0
    refused: bytes = b""
    answered_ms: "array[float]" = field(default_factory=lambda: array("d"))

    def take(self) -> int | None:
        """The first number of the next request, None when it is enough."""
        enough = self.count is not None and self.requests * self.batch >= self.count
        if enough or self.refused or time.perf_counter() >= self.until:
            return None
        self.requests += 1
        return self.first + (self.requests - 1) * self.batch


class Producer(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._sent = 0.0
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.startswith(_ACCEPTED[: len(self._buffer)]):
            self._load.refused = self._buffer
            self._transport.close()
            return
        if not self._buffer.endswith(b"\r\n\r\n"):
            return
        self._load.answered_ms.append((time.perf_counter() - self._sent) * 1000)
        self._buffer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)
        if error is not None and not self._load.refused:
            self._load.refused = repr(error).encode()

    def _next(self) -> None:
        number = self._load.take()
        if number is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._load.make(number))


def requests(url: str, batch: int) -> Callable[[int], bytes]:
    """Makes the bytes of the request that starts with a number."""
    target = urlsplit(url)
    start = f"POST {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n".encode()
    single = (
        start + b"ce-specversion: 1.0\r\nce-source: /bench\r\nce-type: bench.event\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n" % len(DATA) + b"ce-id: "
    )

    def one(number: int) -> bytes:
        return b"%b%d\r\n\r\n%b" % (single, number, DATA)

    def many(number: int) -> bytes:
        body = b"[%b]" % b",".join(_EVENT % (n, DATA) for n in range(number, number + batch))
        return (
            start
            + b"content-type: application/cloudevents-batch+json\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )

    return one if batch == 1 else many


async def produce(load: Load, url: str, producers: int) -> dict[str, float]:
    """Run all producers to their end."""
    target = urlsplit(url)
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    pairs = [
        await loop.create_connection(lambda: Producer(load), target.hostname, target.port)
        for _ in range(producers)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in pairs))
    elapsed = time.perf_counter() - started
    if load.refused:
        raise SystemExit(f"the Broker refused: {load.refused.decode(errors='replace')[:500]}")
    times = sorted(load.answered_ms)
    return {
        "events": len(times) * load.batch,
        "requests": len(times),
        "seconds": elapsed,
        "next": load.first + len(times) * load.batch,
        "cpu_s": time.process_time(),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "longest_ms": times[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--producers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--batch", type=int, default=1)
    asked = parser.parse_args()
    load = Load(
        until=time.perf_counter() + asked.seconds,
        first=asked.first,
        count=asked.count,
        make=requests(asked.url, asked.batch),
        batch=asked.batch,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(produce(load, asked.url, asked.producers)), sys.stdout)


if __name__ == "__main__":
    main()
