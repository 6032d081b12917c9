"""What a gateway adds to the way of each token of a stream.

The predictor writes into each token when it sent it. The same number of streams run straight from
the predictor and through the gateway, in turn; what is compared are the percentiles of the time
from the predictor to the reader.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from client import Json, session
from event_figures import Row
from job_scenes import Gateway, gateway, predictor
from processes import MeasurementFailed

from relume.eventing.jetstream.server import NatsServer

STREAMS = 16
PACE_MS = 60.0  # 16 streams at the rate of the demo model on two cores
TURNS = 3
_MOMENT = re.compile(rb'"content":"(\d+) "')


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the predictor to the reader, of every token, sorted."""

    direct: tuple[float, ...]
    jobs: tuple[float, ...]

    def rows(self) -> list[Row]:
        p50, p99 = _at(self.jobs, 0.5), _at(self.jobs, 0.99)
        direct50, direct99 = _at(self.direct, 0.5), _at(self.direct, 0.99)
        return [
            Row("direct p50", direct50, "ms", digits=2),
            Row("direct p99", direct99, "ms", digits=2),
            Row("as a job p50", p50, "ms", digits=2),
            Row("as a job p99", p99, "ms", digits=2),
            Row("  added p50", p50 - direct50, "ms", below=2, digits=2),
            Row("  added p99", p99 - direct99, "ms", below=10, digits=2),
        ]


async def latency(folder: Path, seconds: float) -> Latency:
    """So many seconds of streams each way."""
    length = max(8, round(seconds / TURNS * 1000 / PACE_MS))
    direct: list[float] = []
    jobs: list[float] = []
    async with (
        session() as http,
        NatsServer(folder) as nats,
        predictor(folder) as model,
        gateway(folder, nats, model.url) as gate,
    ):

        async def straight() -> list[float]:
            url = f"{model.url}/v1/chat/completions"
            async with http.post(url, json=_body(length)) as response:
                return await _read(response)

        async def as_job() -> list[float]:
            return await _job(http, gate, length)

        for turn in range(TURNS + 1):
            ways: list[tuple[Callable[[], Awaitable[list[float]]], list[float]]]
            ways = [(straight, direct), (as_job, jobs)]
            for way, into in ways if turn % 2 else reversed(ways):
                found = await asyncio.gather(*(way() for _ in range(STREAMS)))
                if turn:  # the first one is for warming up
                    into += [each for part in found for each in part]
    return Latency(tuple(sorted(direct)), tuple(sorted(jobs)))


def _body(length: int) -> Json:
    return {
        "model": "bench",
        "messages": [{"role": "user", "content": "the time"}],
        "max_tokens": length,
        "pace_ms": PACE_MS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _job(http: aiohttp.ClientSession, gate: Gateway, length: int) -> list[float]:
    head = {"Prefer": "respond-async"}
    async with http.post(gate.chat, json=_body(length), headers=head) as response:
        id_ = orjson.loads(await response.read())["id"]
    async with http.get(f"{gate.url}/v1/jobs/{id_}/events") as response:
        found = await _read(response)
    if len(found) != length:
        raise MeasurementFailed(f"a stream had {len(found)} tokens, not {length}")
    return found


async def _read(response: aiohttp.ClientResponse) -> list[float]:
    """The milliseconds that each token was on its way."""
    found: list[float] = []
    rest = b""
    async for data in response.content.iter_any():
        now = time.monotonic_ns()
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        sent = (_MOMENT.search(line) for line in lines)
        found += [(now - int(each[1])) / 1e6 for each in sent if each is not None]
    return found


def _at(samples: tuple[float, ...], part: float) -> float:
    return samples[int((len(samples) - 1) * part)]
