"""What a long log changes: the scene of `eventing.py` in which many events wait.

Two planes, each with a Broker and a subscriber of its own, one with an empty log and one with the
backlog, take turns in one run: what else the machine does in these minutes meets both.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from event_figures import Backlog, Rates
from event_programs import BATCH, post
from event_scenes import EventPlane, Subscriber, event_plane, subscriber
from processes import Server
from running import Steps

STEPS = 4
_ROUNDS = 9
_RATE_S = 4.0  # how long a rate is measured
_SETTLE_S = 60.0
_RESTARTS = 3
_LOOK_S = 0.02
#: How a plane ends before it starts again.
_ENDS = {
    "a kill -9 of it and of nats-server": Server.kill_all,
    "a kill -9": Server.kill,
    "a stop": Server.end,
}


@dataclass(slots=True)
class _Side:
    """A plane with its subscriber, and the number of its next event."""

    sink: Subscriber
    plane: EventPlane
    after: int = 0
    rates: list[Rates] = field(default_factory=list)

    async def turn(self) -> None:
        """What comes in while nothing goes out, then as many events going out."""
        before, start = await self.sink.distinct(), self.plane.cpu(self.sink)
        with self.sink.server.paused():
            posted = await post(self.plane.broker_url, self.after, seconds=_RATE_S)
        middle = self.plane.cpu(self.sink)
        self.after = posted.after
        dispatched = await self._dispatch(before + posted.events)
        came, went = middle.since(start), self.plane.cpu(self.sink).since(middle)
        self.rates.append(
            Rates(
                ingress=posted.rate,
                dispatch=dispatched,
                ingress_us=(came.plane + came.nats) * 1e6 / posted.events,
                dispatch_us=(went.plane + went.nats) * 1e6 / posted.events,
            )
        )

    async def _dispatch(self, total: int) -> float:
        """Events delivered a second, until `total` are there."""
        started, first = time.monotonic(), await self.sink.distinct()
        while (came := await self.sink.distinct()) < total:
            self.plane.server.check_alive()
            await asyncio.sleep(_LOOK_S)
        return (came - first) / (time.monotonic() - started)


async def backlog(folder: Path, events: int, progress: Steps) -> Backlog:
    """Rates, memory and starts with so many events in the log, beside an empty one."""
    progress.begin(f"a backlog of {events:,} events")
    parts = [folder / "empty", folder / "full"]
    for part in parts:
        part.mkdir()
    async with subscriber(parts[1]) as sink:
        async with event_plane(parts[1], sink) as plane:
            before = plane.memory_mb()
            with sink.server.paused():
                filled = await post(plane.broker_url, 0, count=events, batch=BATCH)
                after = plane.memory_mb()
                await _settled(progress)
            full = _Side(sink, plane, filled.after)
            progress.begin(f"{_ROUNDS} turns with an empty log and beside the backlog")
            empty = await _turns(parts[0], full)
            await _more(full)
            await plane.server.kill_all()
        progress.begin(f"{_RESTARTS} restarts of each kind")
        serving = await _restarts(parts[1], full)
    return Backlog(
        events=events,
        batched=filled,
        empty=tuple(empty.rates),
        full=tuple(full.rates),
        plane_mb=(before[0], after[0]),
        nats_mb=(before[1], after[1]),
        serving_s={how: tuple(times) for how, times in serving.items()},
    )


async def _settled(progress: Steps) -> None:
    """Until what was written has reached the disk, and a minute more.

    In that minute the plane that took the backlog was seen up to 27 % slower than a minute later,
    and the other one was not. Why is not known; what the kernel does with the pages is suspected.
    """
    progress.begin(f"{_SETTLE_S:g} s for the disk")
    await asyncio.to_thread(os.sync)
    await asyncio.sleep(_SETTLE_S)


async def _turns(folder: Path, full: _Side) -> _Side:
    """Both sides in turn, each as often first; the side with the empty log, which is made here."""
    with full.sink.server.paused():
        async with subscriber(folder) as sink, event_plane(folder, sink) as plane:
            empty = _Side(sink, plane)
            await empty.turn()  # warm
            with full.sink.server.running():
                await full.turn()
            for side in (empty, full):
                side.rates.clear()
            for number in range(_ROUNDS):
                if number % 2:
                    await empty.turn()
                with full.sink.server.running():
                    await full.turn()
                if not number % 2:
                    await empty.turn()
    return empty


async def _more(side: _Side) -> None:
    """New events in the log: what nats-server noted when it last stopped is out of date."""
    with side.sink.server.paused():
        side.after = (await post(side.plane.broker_url, side.after, count=BATCH, batch=BATCH)).after


async def _restarts(folder: Path, side: _Side) -> Mapping[str, list[float]]:
    """Seconds to the first event accepted, by how the plane before ended: killed with all."""
    serving: dict[str, list[float]] = {how: [] for how in _ENDS}
    ends = list(_ENDS.items()) * _RESTARTS
    for (before, _), (_, end) in zip(ends, [*ends[1:], ends[0]], strict=True):
        async with event_plane(folder, side.sink) as plane:
            serving[before].append(plane.serving_s)
            side.plane = plane
            await _more(side)
            await end(plane.server)
    return serving
