"""Events through a Broker: how many a second, how soon, and what a backlog of a million changes.

    python loadtests/eventing.py                            all, about 9 minutes
    python loadtests/eventing.py --seconds 10 --backlog 50000
    python loadtests/eventing.py --beside ../other          this checkout and another one in turn
    python loadtests/eventing.py --profile                  also by layer, in a run of its own

The plane is `relume up` with one Broker and one Trigger. nats-server is its child; the producers
and the subscriber are processes of their own, and all share the machine's cores.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
from event_backlog import STEPS, backlog
from event_beside import Beside, beside, interpreter
from event_figures import PEER, Row, Sustained, ceiling_rows, missed
from event_profile import layers
from event_programs import PRODUCERS, post, program
from event_scenes import (
    SAMPLE_S,
    delivered,
    event_plane,
    slowest,
    subscriber,
)
from event_turns import Side, Times
from figures import Json, Machine, print_notes
from processes import MeasurementFailed, kept_on_failure
from running import run, steps

from relume.cli.screen import Screen

CEILING_S = 5.0
PROFILE_S = 5.0
HEADERS = ("measure", "found", PEER, "target", "holds")


@dataclass(slots=True)
class Found:
    """Rows by table, and the layers of the plane where they were asked for."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    layers: Mapping[str, float] = field(default_factory=dict)


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


async def profiled(folder: Path) -> Mapping[str, float]:
    """The layers of the plane in a short run under the profiler."""
    profile = folder / "plane.prof"
    async with subscriber(folder) as sink:
        async with event_plane(folder, sink, profile=profile) as plane:
            posted = await post(plane.broker_url, 0, seconds=PROFILE_S)
            await delivered(sink, posted.events, plane)
        return layers(profile, posted.events)


async def _measure(seconds: float, events: int, fsync: str, profile: bool) -> tuple[Found, Machine]:
    machine, found = Machine.now(), Found()
    count = 2 + (STEPS if events else 0) + profile
    with kept_on_failure("relume-eventing-") as folder, steps(count) as progress:
        parts = [folder / name for name in ("ceiling", "sustained", "backlog", "profile")]
        for part in parts:
            part.mkdir()
        progress.begin("raw JetStream")
        options = ("--seconds", CEILING_S, "--fsync", fsync)
        ceiling = await program("event_ceiling.py", parts[0], *options)
        progress.begin(f"{PRODUCERS} producers for {seconds:g} s")
        rate = await sustained(parts[1], seconds, "--fsync", fsync)
        title = f"{PRODUCERS} producers, 1 KiB, {seconds:g} s, fsync {fsync}"
        found.tables[title] = rate.rows()
        found.tables["raw JetStream with nats-py"] = ceiling_rows(ceiling, rate)
        found.tables["CPU time of an event"] = rate.cpu_rows()
        if events:
            waiting = await backlog(parts[2], events, progress)
            found.tables[f"a backlog of {events:,} events"] = waiting.rows()
        if profile:
            progress.begin("profile")
            found.layers = await profiled(parts[3])
    return found, machine


def show(screen: Screen, found: Found, machine: Machine) -> None:
    """A table for each part, and what to know about the machine."""
    for title, rows in found.tables.items():
        screen.title(title)
        shown = [at for at, name in enumerate(HEADERS) if name != PEER or any(r.peer for r in rows)]
        cells = [[row.cells()[at] for at in shown] for row in rows]
        screen.table([HEADERS[at] for at in shown], cells)
        screen.line()
    if found.layers:
        screen.title("where the plane's time goes, under a profiler")
        rows = [[name, f"{us:,.0f} µs/event"] for name, us in found.layers.items()]
        screen.table(("layer", "time"), rows)
    print_notes(screen, machine.facts())


def to_json(found: Found) -> Json:
    tables: Json = {title: [row.to_json() for row in rows] for title, rows in found.tables.items()}
    return {"tables": tables, "layers": dict(found.layers)}


def show_beside(screen: Screen, found: Beside, machine: Machine) -> None:
    """The tables of the sides; every figure is a median with its least and its most."""
    for title, (head, rows) in (
        ("post → subscriber, CPU, and the HTTP ceiling", found.sides()),
        ("raw JetStream with nats-py", found.raws()),
        (
            "targets",
            (["ratio", "found", "target", ""], [each.cells() for each in found.targets()]),
        ),
    ):
        screen.title(title)
        screen.table(head, rows)
        screen.line()
    late = f"{found.late_p99_ms:.1f} ms (p99 of the worst turn)"
    print_notes(screen, [*machine.facts(), ("open loops posted late by", late)])


async def _beside(other: Path, turns: int, times: Times) -> tuple[Beside, Machine]:
    machine, old = Machine.now(), Side("old", interpreter(other))
    with steps(turns * 3) as progress:
        found = await beside(Side("new", sys.executable), old, turns, times, progress)
    return found, machine


def _run_beside(other: Path, turns: int, times: Times, output: str) -> None:
    found, machine = run("eventing", _beside(other, turns, times))
    if output == "text":
        show_beside(Screen.stdout(), found, machine)
    else:
        Screen.stdout().json({"machine": machine.to_json(), **found.to_json()})
    if names := [each.name for each in found.targets() if not each.holds]:
        raise SystemExit(f"missed: {', '.join(names)}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds",
    type=click.FloatRange(min=2),
    help="Of the closed loop: 60, and 5 in each turn with --beside.",
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
@click.option("--profile", is_flag=True, help="Say by layer where the plane's time goes.")
@click.option(
    "--beside",
    "other",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="CHECKOUT",
    help="Compare with another checkout in turns; its interpreter is CHECKOUT/.venv/bin/python.",
)
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--open-seconds",
    type=click.FloatRange(min=0.5),
    default=3.0,
    show_default=True,
    help="Of each open loop.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(
    *,
    seconds: float | None,
    events: int,
    fsync: str,
    profile: bool,
    other: Path | None,
    turns: int,
    open_seconds: float,
    output: str,
) -> None:
    """Measure a Broker with its Trigger, beside raw JetStream and Knative's in-memory Broker.

    The exit code is 1 when a target is missed.

    \b
    Examples:
      python loadtests/eventing.py
      python loadtests/eventing.py --seconds 10 --backlog 0 --profile
      python loadtests/eventing.py --seconds 10 --backlog 0 --fsync always
      python loadtests/eventing.py --beside ../other
      python loadtests/eventing.py --beside ../other --turns 7 --seconds 8 --open-seconds 4
    """
    if other is not None:
        return _run_beside(other, turns, Times(closed=seconds or 5.0, open=open_seconds), output)
    found, machine = run("eventing", _measure(seconds or 60.0, events, fsync, profile))
    screen = Screen.stdout()
    if output == "text":
        show(screen, found, machine)
    else:
        screen.json({"machine": machine.to_json(), **to_json(found)})
    if names := missed(list(found.tables.values())):
        raise SystemExit(f"missed: {', '.join(names)}")


if __name__ == "__main__":
    main()
