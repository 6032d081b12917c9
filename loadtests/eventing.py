"""Events through a Broker: how many a second, how soon, and what a backlog of a million changes.

    python loadtests/eventing.py                            all, about 11 minutes
    python loadtests/eventing.py --seconds 10 --backlog 50000
    python loadtests/eventing.py --beside ../other          this checkout and another one in turn
    python loadtests/eventing.py --where                    by stage: CPU time, and waiting

The plane is `relume up` with one Broker and one Trigger. nats-server is its child; the producers
and the subscriber are processes of their own, and all share the machine's cores.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
from event_backlog import STEPS, backlog
from event_beside import beside, show_beside, show_where, sides, where_by_side
from event_figures import PEER, Row, Sustained, ceiling_rows, missed
from event_programs import PRODUCERS, post, program
from event_ratios import Beside
from event_scenes import (
    SAMPLE_S,
    delivered,
    event_plane,
    slowest,
    subscriber,
)
from event_turns import CLOSED_S, OPEN_S, Times
from event_where import Where
from figures import Json, Machine, print_notes
from processes import MeasurementFailed, kept_on_failure
from running import Steps, run, steps

from relume.cli.screen import Screen

CEILING_S = 5.0
SUSTAINED_S = 60.0
HEADERS = ("measure", "found", PEER, "target", "verdict")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured; `other` is the checkout to compare with."""

    seconds: float | None
    events: int
    fsync: str
    turns: int
    open_seconds: float
    where: bool
    other: Path | None

    @property
    def alone(self) -> bool:
        """Whether this checkout is held to its targets by itself, with a backlog too."""
        return not self.where and self.other is None

    @property
    def times(self) -> Times:
        """Of each turn. Without another checkout `seconds` is what the sustained part takes."""
        closed = CLOSED_S if self.other is None else self.seconds or CLOSED_S
        return Times(closed, self.open_seconds)


@dataclass(slots=True)
class Found:
    """Rows by table, the turns, and where the time goes; each where it was asked for."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    beside: Beside | None = None
    where: Mapping[str, Where] = field(default_factory=dict)

    def missed(self) -> list[str]:
        """The names of the figures that miss their target."""
        targets = self.beside.targets() if self.beside else []
        return missed(list(self.tables.values())) + [t.name for t in targets if t.holds is False]

    def to_json(self) -> Json:
        return {
            "tables": {
                title: [row.to_json() for row in rows] for title, rows in self.tables.items()
            },
            "beside": self.beside.to_json() if self.beside else None,
            "where": {name: each.to_json() for name, each in self.where.items()},
        }


async def sustained(folder: Path, seconds: float, *options: str) -> Sustained:
    """All producers post for so long, and the subscriber takes what it can."""
    async with (
        subscriber(folder) as sink,
        event_plane(folder, sink, *options) as plane,
        aiohttp.ClientSession() as http,
    ):
        before, samples = plane.cpu(sink), [(time.monotonic(), 0)]
        posting = asyncio.ensure_future(post(plane.broker_url, 0, seconds=seconds))
        while not posting.done():
            await asyncio.wait([posting], timeout=SAMPLE_S)
            samples.append((time.monotonic(), await sink.distinct()))
        posted = await posting
        await delivered(sink, posted.events, plane)
        cpu = plane.cpu(sink).since(before)
        trigger = await plane.trigger(http)
        if trigger["dead_lettered"] or trigger["retried"]:
            raise MeasurementFailed(f"a delivery failed: {dict(trigger)}")
        return Sustained(
            posted=posted,
            seconds=samples[-1][0] - samples[0][0],
            delivered=samples[-1][1],
            slowest=slowest(samples, min(10.0, seconds / 2)),
            repeated=await sink.repeated(),
            cpu=cpu,
        )


async def _alone(asked: Asked, found: Found, progress: Steps) -> None:
    """What this checkout does by itself: sustained, and with a backlog."""
    seconds = asked.seconds or SUSTAINED_S
    with kept_on_failure("relume-eventing-") as folder:
        parts = [folder / name for name in ("ceiling", "sustained", "backlog")]
        for part in parts:
            part.mkdir()
        progress.begin("raw JetStream")
        options = ("--seconds", CEILING_S, "--fsync", asked.fsync)
        ceiling = await program("event_ceiling.py", parts[0], *options)
        progress.begin(f"{PRODUCERS} producers for {seconds:g} s")
        rate = await sustained(parts[1], seconds, "--fsync", asked.fsync)
        title = f"{PRODUCERS} producers, 1 KiB, {seconds:g} s, fsync {asked.fsync}"
        found.tables[title] = rate.rows()
        found.tables["raw JetStream with nats-py"] = ceiling_rows(ceiling, rate)
        found.tables["CPU time of an event"] = rate.cpu_rows()
        if asked.events:
            waiting = await backlog(parts[2], asked.events, progress)
            found.tables[f"a backlog of {asked.events:,} events"] = waiting.rows()


async def _measure(asked: Asked) -> tuple[Found, Machine]:
    machine, found, checkouts = Machine.now(), Found(), sides(asked.other)
    turns = 0 if asked.where else asked.turns
    count = turns * 2 + asked.where * len(checkouts)
    if asked.alone:
        count += 2 + (STEPS if asked.events else 0)
    with steps(count) as progress:
        if asked.where:
            found.where = await where_by_side(checkouts, asked.seconds or CLOSED_S, progress)
        if turns:
            found.beside = await beside(checkouts, turns, asked.times, progress)
        if asked.alone:
            await _alone(asked, found, progress)
    return found, machine


def show(screen: Screen, found: Found, machine: Machine) -> None:
    """A table for each part, and what to know about the machine."""
    for title, rows in found.tables.items():
        screen.title(title)
        shown = [at for at, name in enumerate(HEADERS) if name != PEER or any(r.peer for r in rows)]
        cells = [[row.cells()[at] for at in shown] for row in rows]
        screen.table([HEADERS[at] for at in shown], cells)
        screen.line()
    if found.beside:
        show_beside(screen, found.beside)
    if found.where:
        show_where(screen, found.where)
    print_notes(screen, machine.facts())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds",
    type=click.FloatRange(min=2),
    help="Of the closed loop: 60; with --beside or --where 2, in each turn or run.",
)
@click.option(
    "--backlog",
    "events",
    type=click.IntRange(min=0),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Events of the backlog; 0 leaves that part out.",
)
@click.option("--fsync", type=click.Choice(["interval", "always"]), default="interval")
@click.option(
    "--beside",
    "other",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="CHECKOUT",
    help="Compare with another checkout, whose interpreter is CHECKOUT/.venv/bin/python.",
)
@click.option(
    "--turns",
    type=click.IntRange(min=0),
    default=7,
    show_default=True,
    help="Of each checkout, with open loops and the HTTP ceiling; 0 leaves that part out.",
)
@click.option(
    "--open-seconds",
    type=click.FloatRange(min=0.5),
    default=OPEN_S,
    show_default=True,
    help="Of each open loop.",
)
@click.option("--where", is_flag=True, help="Measure only by stage where CPU time and waiting go.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, output: str, **options: object) -> None:
    """Measure a Broker with its Trigger, beside raw JetStream and Knative's in-memory Broker.

    With --beside, this checkout and another one take turns, and nothing else is measured. The exit
    code is 1 when a target is missed.

    \b
    Examples:
      python loadtests/eventing.py
      python loadtests/eventing.py --seconds 10 --backlog 0 --turns 0
      python loadtests/eventing.py --seconds 10 --backlog 0 --turns 0 --fsync always
      python loadtests/eventing.py --beside ../other
      python loadtests/eventing.py --beside ../other --turns 7 --seconds 8 --open-seconds 4
      python loadtests/eventing.py --where --seconds 6
      python loadtests/eventing.py --where --beside ../other
    """
    found, machine = run("eventing", _measure(Asked(**options)))  # type: ignore[arg-type]
    screen = Screen.stdout()
    if output == "text":
        show(screen, found, machine)
    else:
        screen.json({"machine": machine.to_json(), **found.to_json()})
    if names := found.missed():
        raise SystemExit(f"missed: {', '.join(names)}")


if __name__ == "__main__":
    main()
