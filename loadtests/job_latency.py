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

# One stream is held to the targets. Sixteen come in step, as from an engine that makes a token for
# each of its streams at once: so the last of them waits for the work of fifteen others.
STREAMS = (1, 16)
PACE_MS = 60.0  # 16 streams at the rate of the demo model on two cores
TURNS = 3
Way = Callable[[], Awaitable[list[float]]]
_MOMENT = re.compile(rb'"content":"(\d+) "')


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the predictor to the reader, of every token, sorted."""

    streams: int
    direct: tuple[float, ...]
    jobs: tuple[float, ...]

    def rows(self) -> list[Row]:
        p50, p99 = _at(self.jobs, 0.5), _at(self.jobs, 0.99)
        direct50, direct99 = _at(self.direct, 0.5), _at(self.direct, 0.99)
        one = self.streams == 1
        name = "1 stream" if one else f"{self.streams} streams in step"
        return [
            Row(f"{name}, direct p50", direct50, "ms", digits=2),
            Row("  direct p99", direct99, "ms", digits=2),
            Row("  as jobs p50", p50, "ms", digits=2),
            Row("  as jobs p99", p99, "ms", digits=2),
            Row("    added p50", p50 - direct50, "ms", below=2 if one else None, digits=2),
            Row("    added p99", p99 - direct99, "ms", below=10 if one else None, digits=2),
        ]


async def latency(folder: Path, seconds: float) -> list[Latency]:
    """So many seconds of streams each way, for each number of streams."""
    length = max(8, round(seconds / TURNS / len(STREAMS) * 1000 / PACE_MS))
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

        return [await _compared(streams, straight, as_job) for streams in STREAMS]


async def _compared(streams: int, straight: Way, as_job: Way) -> Latency:
    """Both ways in turn; the first turn is for warming up."""
    found: dict[Way, list[float]] = {straight: [], as_job: []}
    for turn in range(TURNS + 1):
        for way in (straight, as_job) if turn % 2 else (as_job, straight):
            parts = await asyncio.gather(*(way() for _ in range(streams)))
            if turn:
                found[way] += [each for part in parts for each in part]
    return Latency(streams, tuple(sorted(found[straight])), tuple(sorted(found[as_job])))


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
