"""Where an event's time goes: CPU time by stage, and waiting from post to subscriber by load.

Both come from probes that are put into the plane from outside (`event_probe/sitecustomize.py`), in
runs of their own. The samples are taken by CPU time, so they do not change the proportions.
"""

import json
import os
import signal
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from event_latency import percentiles
from event_programs import HERE
from event_scenes import EventPlane, event_plane, subscriber
from event_stages import Stack, places, shares
from event_stands import FEW, Loading, Side
from figures import Json
from processes import MeasurementFailed, kept_on_failure

_WRITTEN_WITHIN_S = 30.0
_LOOK_S = 0.02
#: The moments of an event in their order, each with what was waited for since the one before.
WAITS = {
    "posted": "",
    "read": "the plane reads the request",
    "publish": "it is decoded, and its turn to be stored comes",
    "came": "nats-server stores it and sends it to the Trigger",
    "taken": "the dispatcher takes it",
    "post": "a slot is free and the delivery begins",
    "arrived": "the subscriber has it",
}


@dataclass(frozen=True, slots=True)
class Waits:
    """At one load: milliseconds on average by moment, the ack beside them, and the whole."""

    load: str
    rate: float
    ms: Mapping[str, float]
    stored_ms: float
    whole_ms: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Where:
    """CPU microseconds of an event by stage and by function, and the waiting by load.

    `missing` are moments that were never noted.
    """

    cpu_us: Mapping[str, float]
    places_us: Mapping[str, float]
    samples: int
    waits: Sequence[Waits]
    missing: Sequence[str]

    def to_json(self) -> Json:
        waits = {each.load: {**each.ms, "whole": each.whole_ms} for each in self.waits}
        return {
            "cpu_us": dict(self.cpu_us),
            "places_us": dict(self.places_us),
            "samples": self.samples,
            "waits_ms": waits,
            "missing": list(self.missing),
        }


async def where(side: Side, seconds: float) -> Where:
    """Two planes of the side, one after the other, each under its own probes."""
    with kept_on_failure("relume-eventing-") as folder:
        for name in ("samples", "moments"):
            (folder / name).mkdir()
        plane_us, stacks = await _sampled(side, folder / "samples", seconds)
        waits, missing = await _waits(side, folder / "moments", seconds)
    return Where(
        cpu_us={stage: share * plane_us for stage, share in shares(stacks).items()},
        places_us={place: share * plane_us for place, share in places(stacks).items()},
        samples=sum(count for count, _ in stacks),
        waits=waits,
        missing=missing,
    )


async def _sampled(side: Side, folder: Path, seconds: float) -> tuple[float, list[Stack]]:
    """CPU microseconds of an event, and the stacks in which they were spent."""
    async with _probed(side, folder, "samples") as (plane, load):
        await load.warm()
        await _written(plane, folder)
        closed = await load.closed(seconds, FEW)
        stacks: list[Stack] = []
        for told in await _written(plane, folder):
            stacks += told["stacks"]  # type: ignore[arg-type]
    return closed.plane_us, stacks


async def _waits(side: Side, folder: Path, seconds: float) -> tuple[list[Waits], list[str]]:
    async with _probed(side, folder, "moments") as (plane, load):
        await load.warm()
        await _written(plane, folder)

        async def at(name: str, rate: float | None = None) -> Waits:
            posted, sent, arrived = await load.post(seconds=seconds, rate=rate)
            first = posted.after - posted.events
            told = await _written(plane, folder)
            return joined(name, posted.rate, first, sent, arrived, told)

        full = await at(f"100 %, {FEW} producers")
        tenth = await at("10 %", full.rate / 10)
        half = await at("50 %", full.rate / 2)
    seen = {moment for each in (tenth, half, full) for moment in each.ms}
    return [tenth, half, full], sorted(WAITS.keys() - seen)


def joined(
    name: str,
    rate: float,
    first: int,
    sent: "array[float]",
    arrived: "array[float]",
    told: Sequence[Mapping[str, object]],
) -> Waits:
    """What the producers, the processes of the plane and the subscriber noted, by event.

    A moment that nobody noted of an event is part of the wait for the next one.
    """
    moments: list[dict[str, float]] = [
        {"posted": a, "arrived": b} for a, b in zip(sent, arrived, strict=True)
    ]
    for process in told:
        for moment, number, at in process["moments"]:  # type: ignore[attr-defined]
            if 0 <= number - first < len(moments):
                moments[number - first].setdefault(moment, at)
    spent: defaultdict[str, float] = defaultdict(float)
    for each in moments:
        before = each["posted"]
        for moment in WAITS:
            if moment in each:
                spent[moment] += (each[moment] - before) * 1000
                before = each[moment]
    stored = [(each["stored"] - each["publish"]) * 1000 for each in moments if "stored" in each]
    whole = [(b - a) * 1000 for a, b in zip(sent, arrived, strict=True)]
    seen = percentiles(whole)
    ms = {moment: total / len(moments) for moment, total in spent.items()}
    return Waits(name, rate, ms, fmean(stored or [0.0]), fmean(whole), seen.p50_ms, seen.p99_ms)


@asynccontextmanager
async def _probed(side: Side, folder: Path, how: str) -> AsyncIterator[tuple[EventPlane, Loading]]:
    path = os.pathsep.join(filter(None, [str(HERE / "event_probe"), os.environ.get("PYTHONPATH")]))
    variables = {"PYTHONPATH": path, "EVENT_PROBE": how, "EVENT_PROBE_FOLDER": str(folder)}
    async with (
        subscriber(folder) as sink,
        event_plane(folder, sink, python=side.python, variables=variables) as plane,
    ):
        yield plane, Loading(plane, sink, folder)


async def _written(plane: EventPlane, folder: Path) -> list[Mapping[str, object]]:
    """What every process of the plane has noted since the last time. Raises MeasurementFailed."""
    pids = [each.pid for each in plane.server.tree() if _is_ready(folder, each.pid)]
    if not pids:
        raise MeasurementFailed("no process of the plane has the probes")
    paths = [folder / f"{pid}.json" for pid in pids]
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    await plane.server.until(
        "writes what its probes noted",
        lambda: all(path.exists() for path in paths),
        within_s=_WRITTEN_WITHIN_S,
        every_s=_LOOK_S,
    )
    told = [json.loads(path.read_text()) for path in paths]
    for path in paths:
        path.unlink()
    return told


def _is_ready(folder: Path, pid: int) -> bool:
    return (folder / f"{pid}.ready").exists()
