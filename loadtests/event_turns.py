"""One turn of a side: a plane of one checkout, its HTTP ceiling, and raw JetStream beside them.

Each turn starts its plane with an empty log, loads it for a bounded time and ends it again. The
producers, the subscriber and raw JetStream are the same programs for every side.
"""

from array import array
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from event_latency import Latency, latency
from event_programs import HERE, Posted, post, program
from event_scenes import (
    EventPlane,
    Subscriber,
    cpu_s,
    delivered,
    event_plane,
    subscriber,
    until_it_answers,
)
from processes import MeasurementFailed, kept_on_failure, started
from servers import environment

from relume.plane.launch import HOST, free_port

FEW, MANY = 16, 64
RATES = (200.0, 1000.0)
HALF = "half of its rate"
CLOSED_S, OPEN_S = 3.0, 2.5
_WARM = 500
_DRAINED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Side:
    """One checkout: what it is called in the tables, and its interpreter."""

    name: str
    python: str


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each load of a turn."""

    closed: float = CLOSED_S
    open: float = OPEN_S
    ceiling: float = 2.0


@dataclass(frozen=True, slots=True)
class Closed:
    """Producers in a closed loop; CPU time in microseconds of an event."""

    accepted_per_s: float
    delivered_per_s: float
    plane_us: float
    nats_us: float
    seen: Latency


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side did: a closed loop with 16 and with 64 producers, and open loops by rate.

    HTTP is its ceiling without a Broker, with 16 producers.
    """

    few: Closed
    many: Closed
    open: Mapping[str, Latency]
    late_p99_ms: float
    http_us: float
    http_per_s: float
    http_seen: Latency

    @property
    def half(self) -> float:
        """Half of what was delivered a second with 16 producers: the third open loop's rate."""
        return self.few.delivered_per_s / 2


@dataclass(frozen=True, slots=True)
class Raw:
    """Raw JetStream: events a second, and publish → fetch by rate."""

    published_per_s: float
    consumed_per_s: float
    open: Mapping[str, Latency]


async def turn(side: Side, times: Times) -> Turn:
    """Start the side's plane and load it, then its HTTP ceiling."""
    with kept_on_failure("relume-eventing-") as folder:
        async with subscriber(folder) as sink, _plane(side, sink, folder) as load:
            few, many = await load.closed(times.closed, FEW), await load.closed(times.closed, MANY)
            rates = _named(few.delivered_per_s / 2)
            found = {name: await load.open(rate, times.open) for name, rate in rates.items()}
        async with subscriber(folder) as sink:
            http_us, http_per_s, http_seen = await _http(side, sink, folder, times.ceiling)
    return Turn(
        few=few,
        many=many,
        open={name: seen for name, (seen, _) in found.items()},
        late_p99_ms=max(late for _, late in found.values()),
        http_us=http_us,
        http_per_s=http_per_s,
        http_seen=http_seen,
    )


def _named(half: float) -> dict[str, float]:
    """The rates of the open loops by their names."""
    return {f"{rate:,.0f}/s": rate for rate in RATES} | {HALF: half}


@asynccontextmanager
async def _plane(side: Side, sink: Subscriber, folder: Path) -> AsyncIterator["Loading"]:
    """A plane of the side, warm; no delivery may fail in it."""
    async with event_plane(folder, sink, python=side.python) as plane:
        load = Loading(plane, sink, folder)
        await load.warm()
        yield load
        async with aiohttp.ClientSession() as http:
            trigger = await plane.trigger(http)
    if trigger["dead_lettered"] or trigger["retried"]:
        raise MeasurementFailed(f"a delivery failed: {dict(trigger)}")


async def raw(half: float, times: Times) -> Raw:
    """Raw JetStream at the same rates; `half` is the third one."""
    rates = _named(half)
    with kept_on_failure("relume-eventing-") as folder:
        told = await program(
            "event_ceiling.py",
            *(folder, "--seconds", times.ceiling, "--open-seconds", times.open),
            *("--rates", ",".join(f"{rate:g}" for rate in rates.values())),
        )
    seen = {
        name: Latency(told[f"p50_ms {rate:g}"], told[f"p99_ms {rate:g}"])
        for name, rate in rates.items()
    }
    return Raw(told["published_per_s"], told["consumed_per_s"], seen)


class Loading:
    """Posts to one plane, numbers its events, and joins them with what the subscriber saw."""

    def __init__(self, plane: EventPlane, sink: Subscriber, folder: Path) -> None:
        self._plane = plane
        self._sink = sink
        self._sent = folder / "sent"
        self._after = 0

    async def warm(self) -> None:
        """Some events first: connections are open, and code was run once."""
        await self.post(count=_WARM, producers=FEW)

    async def closed(self, seconds: float, producers: int) -> Closed:
        """Each producer posts its next event when the last one is answered."""
        before = self._plane.cpu(self._sink)
        posted, sent, arrived = await self.post(seconds=seconds, producers=producers)
        cpu = self._plane.cpu(self._sink).since(before)
        end = sent[0] + posted.seconds
        return Closed(
            accepted_per_s=posted.rate,
            delivered_per_s=sum(moment <= end for moment in arrived) / posted.seconds,
            plane_us=cpu.plane * 1e6 / posted.events,
            nats_us=cpu.nats * 1e6 / posted.events,
            seen=latency(sent, arrived),
        )

    async def open(self, rate: float, seconds: float) -> tuple[Latency, float]:
        """Post so many a second; (post → subscriber, how late the posts were)."""
        posted, sent, arrived = await self.post(seconds=seconds, rate=rate)
        return latency(sent, arrived), posted.late_p99_ms

    async def post(self, **how: float) -> tuple[Posted, "array[float]", "array[float]"]:
        """Post, and wait until the subscriber has all; (…, sent, arrived) by number."""
        first = self._after
        posted = await post(self._plane.broker_url, first, sent=self._sent, **how)  # type: ignore[arg-type]
        self._after = posted.after
        await delivered(self._sink, self._after, self._plane, _DRAINED_WITHIN_S)
        sent = array("d", self._sent.read_bytes())
        return posted, sent, await self._sink.arrivals(first, posted.events)


async def _http(
    side: Side, sink: Subscriber, folder: Path, seconds: float
) -> tuple[float, float, Latency]:
    """The HTTP ceiling: (CPU µs of an event, events a second, post → subscriber)."""
    port = free_port()
    argv = [side.python, str(HERE / "event_http.py"), str(port), f"http://{sink.address}/"]
    url, log = f"http://{HOST}:{port}/default/bench", folder / "http.log"
    async with (
        started("event_http.py", argv, env=environment(), log=log) as server,
        aiohttp.ClientSession() as http,
    ):

        async def answers() -> None:
            async with http.get(url, raise_for_status=True):
                pass

        await until_it_answers(server, answers)
        warm = await post(url, 0, count=_WARM, producers=FEW)
        before = cpu_s(server.tree()[0])
        sent = folder / "sent"
        posted = await post(url, warm.after, seconds=seconds, producers=FEW, sent=sent)
        used = cpu_s(server.tree()[0]) - before
        arrived = await sink.arrivals(warm.after, posted.events)
    seen = latency(array("d", sent.read_bytes()), arrived)
    return used * 1e6 / posted.events, posted.rate, seen
