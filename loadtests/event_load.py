"""Producers of events in a process of their own: closed loop, or open loop at a steady rate.

    python event_load.py URL --producers 64 --seconds 60 --first 0 [--batch 100] [--count N]
    python event_load.py URL --rate 1000 --seconds 5 [--sent FILE]

In a closed loop a producer posts, waits for the answer and posts the next. In an open loop events
are posted when they are due, whatever was answered. Both end after --seconds.

Written on the bare protocol, because it runs on the cores of what it measures. Each event has
1 KiB of JSON data and its number as id. A connection that the server has closed, as it may after a
while without a request, is made anew, and a request that was lost with it is sent again.

Prints one JSON object: events, requests, seconds, the next free number, CPU seconds, the
milliseconds of an answer (p50, p99, longest), connections made anew (reconnected), and how late an
open loop posted (late_p99_ms). FILE gets the moment of each post in seconds of the monotonic clock,
as native doubles.
"""

import argparse
import asyncio
import json
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import urlsplit

import uvloop
from event_pace import paced

DATA_BYTES = 1024
_ACCEPTED = b"HTTP/1.1 202"
# Of an open loop: more than a second's events wait in the Broker only where it is overloaded.
_CONNECTIONS = 128
_ANSWERED_WITHIN_S = 60.0
DATA = b'{"prompt":"%s"}' % (b"x" * (DATA_BYTES - 13))
_EVENT = b'{"specversion":"1.0","id":"%d","source":"/bench","type":"bench.event","data":%b}'


@dataclass(slots=True)
class Record:
    """What was posted and answered, in the order of the numbers; moments of the monotonic clock."""

    sent: "array[float]" = field(default_factory=lambda: array("d"))
    answered_ms: "array[float]" = field(default_factory=lambda: array("d"))
    reconnected: int = 0
    refused: bytes = b""


class Work(Protocol):
    """Gives each producer that is free its next request."""

    record: Record

    def free(self, producer: "Producer") -> None: ...

    def lost(self, producer: "Producer") -> None:
        """The connection is gone; the producer is free again when it has another one."""
        ...


class Producer(asyncio.Protocol):
    """One connection at a time, to `host` and `port`; a request at a time."""

    def __init__(self, work: Work, host: str, port: int) -> None:
        self._work = work
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._request = b""  # the one that is not answered yet
        self._sent = 0.0
        self._buffer = b""
        self._is_proven = False  # this connection has brought an answer
        self._is_over = False
        self._connecting: asyncio.Task[None] | None = None
        self.done = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, *self._address)
        except OSError as error:
            self._end(repr(error).encode())

    def post(self, request: bytes, sent: float) -> None:
        """Send a request; its answer is timed from `sent`."""
        self._request, self._sent = request, sent
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(request)  # else it goes on the next connection

    def close(self) -> None:
        self._is_over = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._is_proven = False
        if self._request:
            self._transport.write(self._request)
        else:
            self._work.free(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._buffer.startswith(_ACCEPTED[: len(self._buffer)]):
            self._work.record.refused = self._buffer
            self.close()
            return
        if not self._buffer.endswith(b"\r\n\r\n"):
            return
        self._work.record.answered_ms.append((time.monotonic() - self._sent) * 1000)
        self._request = self._buffer = b""
        self._is_proven = True
        self._work.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._is_over:
            self._end()
        elif not self._buffer and (self._is_proven or not self._request):
            self._work.lost(self)
            self._work.record.reconnected += 1
            self._connecting = asyncio.ensure_future(self.connect())
        else:
            self._end(repr(error or "the connection ended without an answer").encode())

    def _end(self, refused: bytes = b"") -> None:
        self._work.record.refused = self._work.record.refused or refused
        if not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True)
class Load:
    """A closed loop: as many requests under way as there are producers."""

    until: float
    first: int
    count: int | None
    make: Callable[[int], bytes]
    batch: int = 1
    requests: int = 0
    record: Record = field(default_factory=Record)

    def free(self, producer: Producer) -> None:
        number, now = self._take(), time.monotonic()
        if number is None:
            return producer.close()
        self.record.sent.append(now)
        producer.post(self.make(number), now)

    def lost(self, producer: Producer) -> None:
        pass

    def _take(self) -> int | None:
        """The first number of the next request, None when it is enough."""
        enough = self.count is not None and self.requests * self.batch >= self.count
        if enough or self.record.refused or time.monotonic() >= self.until:
            return None
        self.requests += 1
        return self.first + (self.requests - 1) * self.batch


@dataclass(slots=True)
class OpenLoad:
    """An open loop: each event is posted when it is due, on a connection that is free.

    Where none is free, the event waits for one, and its time runs.
    """

    first: int
    make: Callable[[int], bytes]
    record: Record = field(default_factory=Record)
    ended: bool = False
    _idle: list[Producer] = field(default_factory=list)
    _waiting: deque[tuple[int, float]] = field(default_factory=deque)

    def due(self, number: int) -> None:
        """Post the event of that number, counted from the first."""
        now = time.monotonic()
        self.record.sent.append(now)
        self._waiting.append((self.first + number, now))
        if self._idle:
            self.free(self._idle.pop())

    def free(self, producer: Producer) -> None:
        if self._waiting:
            number, due = self._waiting.popleft()
            producer.post(self.make(number), due)
        elif self.ended:
            producer.close()
        else:
            self._idle.append(producer)

    def lost(self, producer: Producer) -> None:
        if producer in self._idle:
            self._idle.remove(producer)

    def end(self) -> None:
        """Nothing more comes due: close what is idle, and the others when they are."""
        self.ended = True
        while self._idle:
            self._idle.pop().close()


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
    """Run all producers of a closed loop to their end."""
    started = time.monotonic()
    connected = await _connect(load, url, producers)
    await asyncio.gather(*(each.done for each in connected))
    return _told(load.record, time.monotonic() - started, load.first, load.batch)


async def produce_open(load: OpenLoad, url: str, rate: float, seconds: float) -> dict[str, float]:
    """Post so many events a second, and wait for their answers."""
    connected = await _connect(load, url, _CONNECTIONS)
    started = time.monotonic()
    late_p99_ms = await paced(rate, seconds, load.due)
    elapsed = time.monotonic() - started
    load.end()
    async with asyncio.timeout(_ANSWERED_WITHIN_S):
        await asyncio.gather(*(each.done for each in connected))
    return {**_told(load.record, elapsed, load.first, 1), "late_p99_ms": late_p99_ms}


async def _connect(work: Work, url: str, count: int) -> list[Producer]:
    target = urlsplit(url)
    producers = [Producer(work, target.hostname or "", target.port or 80) for _ in range(count)]
    for producer in producers:
        await producer.connect()
    return producers


def _told(record: Record, elapsed: float, first: int, batch: int) -> dict[str, float]:
    if record.refused:
        raise SystemExit(f"the Broker refused: {record.refused.decode(errors='replace')[:500]}")
    times = sorted(record.answered_ms)
    return {
        "events": len(times) * batch,
        "requests": len(times),
        "seconds": elapsed,
        "next": first + len(times) * batch,
        "cpu_s": time.process_time(),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "longest_ms": times[-1],
        "reconnected": record.reconnected,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--producers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--sent", type=Path)
    asked = parser.parse_args()
    make = requests(asked.url, asked.batch)
    work: Load | OpenLoad
    if asked.rate is None:
        until = time.monotonic() + asked.seconds
        work = Load(until, asked.first, asked.count, make, asked.batch)
        posting = produce(work, asked.url, asked.producers)
    else:
        work = OpenLoad(asked.first, make)
        posting = produce_open(work, asked.url, asked.rate, asked.seconds)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(posting)
    if asked.sent is not None:
        asked.sent.write_bytes(work.record.sent.tobytes())
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
