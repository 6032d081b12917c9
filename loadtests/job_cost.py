"""What a token of a job costs the gateway and nats-server, in CPU.

The predictor has no model, so the noise of an engine is out of it. Jobs of two lengths tell the
cost of a token from that of a job: the more tokens, the more of the first.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import psutil  # type: ignore[import-untyped]
from client import Json, session
from event_figures import Row
from job_scenes import Gateway, gateway, predictor
from job_tokens import AT_ONCE, Follow, settled, submitted, watched

from relume.eventing.jetstream.server import NatsServer

PACE_MS = 60.0  # 16 streams at the rate of the demo model on two cores
SHORT = 8
TURNS = 3
_MEASURED = ("gateway", "nats-server")


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU of gateway and nats-server, for one more token and for a job without."""

    token_us: tuple[float, float]
    job_us: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Costs:
    """Of jobs that nobody reads, and of those whose every token is read as it comes."""

    unread: Cost
    read: Cost

    def rows(self) -> list[Row]:
        rows = list[Row]()
        for name, cost in (("nobody reads", self.unread), ("each is read", self.read)):
            for which, token_us, job_us in zip(_MEASURED, cost.token_us, cost.job_us, strict=True):
                rows.append(Row(f"{name}: {which}, a token", token_us, "µs"))
                rows.append(Row(f"{name}: {which}, a job", job_us, "µs"))
        return rows


async def cost(folder: Path, length: int) -> Costs:
    """Jobs of two lengths, unread and read, in turn; of each the median of TURNS."""
    async with (
        session() as http,
        NatsServer(folder) as nats,
        predictor(folder) as model,
        gateway(folder, nats, model.url) as gate,
    ):
        assert nats.pid is not None
        processes = [psutil.Process(gate.server.pid), psutil.Process(nats.pid)]
        ways: dict[str, Follow] = {"unread": settled, "read": watched}
        used: dict[tuple[str, int], list[list[float]]] = {}
        for turn in range(TURNS + 1):
            for way, follow in ways.items():
                for tokens in (SHORT, length):
                    before = [_cpu_s(each) for each in processes]
                    await _turn(http, gate, follow, tokens)
                    after = [_cpu_s(each) for each in processes]
                    if turn:  # the first one is for warming up
                        spent = [1e6 * (b - a) for a, b in zip(before, after, strict=True)]
                        used.setdefault((way, tokens), []).append(spent)
    found = {way: _cost(used[way, SHORT], used[way, length], length) for way in ways}
    return Costs(found["unread"], found["read"])


def _cost(short: list[list[float]], long: list[list[float]], length: int) -> Cost:
    tokens, jobs = list[float](), list[float]()
    for each in range(len(_MEASURED)):
        few, many = (median(turn[each] for turn in turns) / AT_ONCE for turns in (short, long))
        tokens.append((many - few) / (length - SHORT))
        jobs.append(few - SHORT * tokens[-1])
    return Cost((tokens[0], tokens[1]), (jobs[0], jobs[1]))


async def _turn(http: aiohttp.ClientSession, gate: Gateway, follow: Follow, tokens: int) -> None:
    body: Json = {
        "model": "bench",
        "messages": [{"role": "user", "content": "the time"}],
        "max_tokens": tokens,
        "pace_ms": PACE_MS,
    }

    async def one() -> None:
        await follow(http, gate, await submitted(http, gate, body))

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
