"""What one side has running: its plane, its HTTP ceiling, and a subscriber for each of them.

A stand stays up for all turns and is idle while it is not loaded. The producers and the subscribers
are the same programs for every side.
"""

from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from event_latency import Latency, latency
from event_programs import HERE, Posted, post
from event_scenes import (
    EventPlane,
    Subscriber,
    cpu_s,
    delivered,
    event_plane,
    subscriber,
    until_it_answers,
)
from processes import MeasurementFailed, Server, started
from servers import environment

from relume.plane.launch import HOST, free_port

FEW, MANY = 16, 64
_WARM = 500
_DRAINED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Side:
    """One checkout: what it is called in the tables, and its interpreter."""

    name: str
    python: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Producers in a closed loop; CPU time in microseconds of an event."""

    accepted_per_s: float
    delivered_per_s: float
    plane_us: float
    nats_us: float
    seen: Latency


@dataclass(frozen=True, slots=True)
class Open:
    """An open loop: post → subscriber, and how late the posts themselves were (p99)."""

    seen: Latency
    late_p99_ms: float


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP ceiling, in a closed loop with 16 producers; CPU time in microseconds."""

    per_s: float
    us: float
    seen: Latency


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

    async def open(self, seconds: float, rate: float) -> Open:
        """Post so many a second."""
        posted, sent, arrived = await self.post(seconds=seconds, rate=rate)
        return Open(latency(sent, arrived), posted.late_p99_ms)

    async def post(
        self,
        *,
        seconds: float | None = None,
        count: int | None = None,
        producers: int = FEW,
        rate: float | None = None,
    ) -> tuple[Posted, "array[float]", "array[float]"]:
        """Post, and wait until the subscriber has all; (…, sent, arrived) by number."""
        first = self._after
        posted = await post(
            self._plane.broker_url,
            first,
            seconds=seconds,
            count=count,
            producers=producers,
            rate=rate,
            sent=self._sent,
        )
        self._after = posted.after
        await delivered(self._sink, self._after, self._plane, _DRAINED_WITHIN_S)
        sent = array("d", self._sent.read_bytes())
        return posted, sent, await self._sink.arrivals(first, posted.events)


class HttpCeiling:
    """`event_http.py` with the interpreter of a side."""

    def __init__(self, server: Server, url: str, sink: Subscriber, folder: Path) -> None:
        self._server = server
        self._url = url
        self._sink = sink
        self._sent = folder / "sent"
        self._after = 0

    async def warm(self) -> None:
        """As with a plane."""
        self._after = (await post(self._url, 0, count=_WARM, producers=FEW)).after

    async def closed(self, seconds: float) -> Http:
        """Each producer posts its next event when the last one is answered."""
        first, before = self._after, self._cpu_s()
        posted = await post(self._url, first, seconds=seconds, producers=FEW, sent=self._sent)
        used = self._cpu_s() - before
        self._after = posted.after
        arrived = await self._sink.arrivals(first, posted.events)
        seen = latency(array("d", self._sent.read_bytes()), arrived)
        return Http(posted.rate, used * 1e6 / posted.events, seen)

    def _cpu_s(self) -> float:
        return sum(map(cpu_s, self._server.tree()))


@dataclass(frozen=True, slots=True)
class Stand:
    """All of one side, warm."""

    side: Side
    plane: Loading
    http: HttpCeiling


@asynccontextmanager
async def stand(side: Side, folder: Path) -> AsyncIterator[Stand]:
    """All of one side, for as long as the block runs; no delivery may fail in it."""
    parts = [folder / f"{side.name}-{name}" for name in ("plane", "http")]
    for part in parts:
        part.mkdir()
    async with (
        subscriber(parts[0]) as sink,
        event_plane(parts[0], sink, python=side.python) as plane,
        subscriber(parts[1]) as http_sink,
        _http_ceiling(side, http_sink, parts[1]) as http,
        aiohttp.ClientSession() as session,
    ):
        found = Stand(side, Loading(plane, sink, parts[0]), http)
        await found.plane.warm()
        await found.http.warm()
        yield found
        trigger = await plane.trigger(session)
    if trigger["dead_lettered"] or trigger["retried"]:
        raise MeasurementFailed(f"{side.name}: a delivery failed: {dict(trigger)}")


@asynccontextmanager
async def _http_ceiling(side: Side, sink: Subscriber, folder: Path) -> AsyncIterator[HttpCeiling]:
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
        yield HttpCeiling(server, url, sink, folder)
