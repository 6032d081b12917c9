"""How many revisions one core decides for in a tick of the autoscaler, without any process.

    python loadtests/autoscaler.py                          five turns, half a minute
    python loadtests/autoscaler.py --revisions 20000 -o json

Each revision is the plane's own `Service` on a virtual clock. In each second its load is reported,
and every 2 s it decides, as in a plane. The CPU time of both together counts. A third of the
revisions is at zero, a third has a steady load, and a third one that comes and goes.
"""

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import aiohttp
import click
from figures import Json, Machine, print_notes, spread, verdict

from relume.base.testing import VirtualClock
from relume.cli.screen import Screen
from relume.config import Autoscaling, InferenceService
from relume.serving import revision as rev
from relume.serving.ledger import Ledger
from relume.serving.memory import Memory
from relume.serving.predictor import PredictorLauncher
from relume.serving.replica import Surroundings
from relume.serving.service import Service
from relume.serving.settings import ServingSettings

TARGET = 10_000
TICK_S, REPORT_S = 2.0, 1.0
#: Ticks until the windows of 60 s are full, and ticks that are measured.
WARM, MEASURED = 35, 15


class NoProcesses:
    """In the place of the task group of a plane: what would start a process ends at once."""

    def create_task(self, work: Coroutine[Any, Any, object], *, name: str) -> None:
        work.close()


@dataclass(slots=True)
class Revision:
    """A service, and the requests that it has in each second of its period."""

    service: Service
    load: tuple[int, ...]
    running: int = 0

    def second(self, at: int) -> None:
        """Let requests come and go."""
        wanted = self.load[at % len(self.load)]
        for _ in range(self.running, wanted):
            self.service.arrived()
        for _ in range(wanted, self.running):
            self.service.left()
        self.running = wanted


def revisions(count: int, clock: VirtualClock, folder: Path) -> list[Revision]:
    """So many revisions, of which those with requests have a ready replica."""
    none = cast(PredictorLauncher, None)
    session = cast(aiohttp.ClientSession, None)
    settings, memory = ServingSettings(), Memory(None, none, clock)
    around = Surroundings(none, session, clock, settings, Ledger(folder / "ledger"), memory)
    rng, group = random.Random(1), cast(asyncio.TaskGroup, NoProcesses())
    found = []
    for number in range(count):
        scaling = Autoscaling(target=4.0, max_scale=1)
        config = InferenceService(
            *("default", f"m{number}", "vLLM", "hf://org/model"),
            min_replicas=0,
            max_replicas=1,
            autoscaling=scaling,
        )
        service = Service(config, around, group, folder)
        load: tuple[int, ...] = (0,)
        if number % 3:
            service._apply(rev.ScaleTo(1))
            service._revision.on(rev.BecameReady(1), 0.0)
            load = (rng.randrange(1, 6),)
        if number % 3 == 2:
            period = rng.randrange(5, 30)
            load = tuple(round(4 + 4 * math.sin(at / period)) for at in range(6 * period))
        found.append(Revision(service, load))
    return found


async def turn(count: int) -> tuple[float, float]:
    """CPU seconds of a tick with its two reports for all, and those of the ceiling."""
    clock = VirtualClock()
    with tempfile.TemporaryDirectory() as folder:
        every = revisions(count, clock, Path(folder))
        used = 0.0
        for tick in range(WARM + MEASURED):
            for report in range(round(TICK_S / REPORT_S)):
                for each in every:
                    each.second(round(tick * TICK_S) + report)
                await clock.advance(REPORT_S)
                began = time.process_time()
                for each in every:
                    each.service.report()
                used += time.process_time() - began if tick >= WARM else 0.0
            began = time.process_time()
            for each in every:
                each.service.tick()
            used += time.process_time() - began if tick >= WARM else 0.0
        states = {each.service._revision.state for each in every}
        assert states == {rev.State.ZERO, rev.State.READY}, states
    return used / MEASURED, ceiling(count)


def ceiling(count: int) -> float:
    """CPU seconds of the arithmetic alone: two means over windows, and two divisions."""
    windows = [[1.0] * 60 for _ in range(count)]
    began = time.process_time()
    for window in windows:
        stable, panic = sum(window) / 60, sum(window[-6:]) / 6
        math.ceil(stable / 2.8), math.ceil(panic / 2.8)
    return time.process_time() - began


@dataclass(frozen=True, slots=True)
class Found:
    """CPU seconds of a tick for `count` revisions, turn by turn, and of the arithmetic alone."""

    count: int
    tick_s: tuple[float, ...]
    ceiling_s: tuple[float, ...]

    @property
    def in_a_tick(self) -> tuple[float, ...]:
        """How many revisions one core decides for in a tick, with nothing else to do."""
        return tuple(self.count * TICK_S / used for used in self.tick_s)

    @property
    def holds(self) -> bool:
        return median(self.in_a_tick) >= TARGET

    def to_json(self) -> Json:
        """All of it, with every sample."""
        return {
            "revisions": self.count,
            "tick_s": [round(each, 4) for each in self.tick_s],
            "ceiling_s": [round(each, 4) for each in self.ceiling_s],
            "revisions_in_a_tick": round(median(self.in_a_tick)),
            "target": TARGET,
            "holds": self.holds,
        }


def display(screen: Screen, found: Found, machine: Machine) -> None:
    """The table, and what it was measured on."""
    screen.title(f"the autoscaler, {found.count:,} revisions, medians of {len(found.tick_s)} turns")
    each_us = tuple(used / found.count * 1e6 for used in found.tick_s)
    bare_us = tuple(used / found.count * 1e6 for used in found.ceiling_s)
    headers = ("measure", "median", "least … most", "target", "verdict")
    screen.table(
        headers,
        [
            [
                f"revisions in a tick of {TICK_S:g} s on one core",
                f"{median(found.in_a_tick):,.0f}",
                spread(found.in_a_tick, 0),
                f"≥ {TARGET:,}",
                verdict(found.holds),
            ],
            *(
                [name, f"{median(samples):.1f} µs", spread(samples, 1), "", ""]
                for name, samples in (
                    ("CPU of a revision, tick and reports", each_us),
                    ("the arithmetic alone", bare_us),
                )
            ),
        ],
    )
    print_notes(screen, machine.facts())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@click.option("--revisions", "count", type=click.IntRange(min=3), default=TARGET, show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, turns: int, count: int, output: str) -> None:
    """Measure what the decisions of the autoscaler cost.

    A missed target is shown and is not a failure.

    \b
    Examples:
      python loadtests/autoscaler.py
      python loadtests/autoscaler.py --revisions 20000 --turns 3
      python loadtests/autoscaler.py --turns 1 -o json
    """
    machine = Machine.now()
    pairs = [asyncio.run(turn(count)) for _ in range(turns)]
    found = Found(count, *(tuple(each) for each in zip(*pairs, strict=True)))
    screen = Screen.stdout()
    if output == "json":
        screen.json({"machine": machine.to_json(), **found.to_json()})
    else:
        display(screen, found, machine)


if __name__ == "__main__":
    main()
