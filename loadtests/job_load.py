"""Producers of jobs in a process of their own: post, wait for 202, post the next.

    python job_load.py URL --producers 64 --seconds 60

URL is an inference route of a gateway. Written on the bare protocol, because it runs on the cores
of what it measures. Each body has 1 KiB. Prints one JSON object: jobs, seconds, CPU seconds, and
the milliseconds of an answer (p50, p99, longest).
"""

import argparse
import asyncio
import json
import sys
import time
from array import array
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import uvloop

BODY_BYTES = 1024
_HEAD = b'{"model":"bench","max_tokens":8,"messages":[{"role":"user","content":"'
_TAIL = b'"}]}'
BODY = _HEAD + b"x" * (BODY_BYTES - len(_HEAD) - len(_TAIL)) + _TAIL


@dataclass(slots=True)
class Load:
    """What is to be posted, and how it went."""

    until: float
    request: bytes
    count: int | None
    sent: int = 0
    refused: bytes = b""
    answered_ms: "array[float]" = field(default_factory=lambda: array("d"))

    def more(self) -> bool:
        """Whether one more request is to be sent now."""
        enough = self.count is not None and self.sent >= self.count
        if enough or self.refused or time.perf_counter() >= self.until:
            return False
        self.sent += 1
        return True


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
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[:head_end].lower()
        if not head.startswith(b"http/1.1 202"):
            self._load.refused = self._buffer
            return self._transport.close()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._buffer) < head_end + 4 + int(length or 0):
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
        if not self._load.more():
            return self._transport.close()
        self._sent = time.perf_counter()
        self._transport.write(self._load.request)


def request(url: str) -> bytes:
    """The bytes of a request; each one is a new job, because it has no key."""
    target = urlsplit(url)
    return (
        f"POST {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\nPrefer: respond-async\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY


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
        raise SystemExit(f"the gateway refused: {load.refused.decode(errors='replace')[:500]}")
    times = sorted(load.answered_ms)
    return {
        "jobs": len(times),
        "seconds": elapsed,
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
    parser.add_argument("--count", type=int)
    asked = parser.parse_args()
    load = Load(time.perf_counter() + asked.seconds, request(asked.url), asked.count)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(produce(load, asked.url, asked.producers)), sys.stdout)


if __name__ == "__main__":
    main()
