"""Jobs through the gateway: how many a second, how soon, and what a million that wait change.

    python loadtests/jobs.py                                  all, about 15 minutes
    python loadtests/jobs.py --only intake --seconds 10
    python loadtests/jobs.py --only backlog --backlog 50000

Every part compares with a peer in the same run on the same machine: the Broker's ingress, the
predictor without a gateway, a gateway with an empty queue. Read the ratios.
"""

from dataclasses import dataclass, field
from pathlib import Path

import click
import job_backlog
from event_figures import Row, missed
from figures import Json, Machine, print_notes
from job_cost import cost
from job_intake import intake
from job_latency import PACE_MS, latency
from job_tokens import AT_ONCE, tokens
from processes import kept_on_failure
from running import Steps, run, steps

from relume.cli.screen import Screen

PARTS = ("intake", "tokens", "cost", "latency", "backlog")
HEADERS = ("measure", "found", "target", "verdict")


@dataclass(slots=True)
class Wanted:
    """What is to be measured, and how long."""

    parts: tuple[str, ...]
    seconds: float
    runs: int
    length: int
    backlog: int

    @property
    def steps(self) -> int:
        extra = {"tokens": self.runs + 1, "backlog": job_backlog.STEPS}
        return sum(extra.get(part, 0) + 1 for part in self.parts)


@dataclass(slots=True)
class Found:
    """Rows by table."""

    tables: dict[str, list[Row]] = field(default_factory=dict)


async def _part(part: str, folder: Path, wanted: Wanted, progress: Steps) -> tuple[str, list[Row]]:
    progress.begin(part)
    match part:
        case "intake":
            title = "intake: 64 producers, 1 KiB, nothing delivered meanwhile"
            return title, (await intake(folder, wanted.seconds)).rows()
        case "tokens":
            title = f"the demo model, {AT_ONCE} at once, {wanted.length} tokens each"
            found = await tokens(folder, wanted.runs, wanted.length, progress)
            return title, found.rows()
        case "cost":
            title = f"CPU, {AT_ONCE} at once, one token every {PACE_MS:g} ms from no model"
            return title, (await cost(folder, wanted.length)).rows()
        case "latency":
            title = f"on the way of a token, one every {PACE_MS:g} ms in a stream"
            compared = await latency(folder, wanted.seconds)
            return title, [row for each in compared for row in each.rows()]
        case _:
            title = f"{wanted.backlog:,} jobs that wait"
            waiting = await job_backlog.backlog(folder, wanted.backlog, progress)
            return title, waiting.rows()


async def _measure(wanted: Wanted) -> tuple[Found, Machine]:
    machine, found = Machine.now(), Found()
    with kept_on_failure("relume-jobs-") as folder, steps(wanted.steps) as progress:
        places = [folder / part for part in wanted.parts]
        for place in places:
            place.mkdir()
        for part, place in zip(wanted.parts, places, strict=True):
            title, rows = await _part(part, place, wanted, progress)
            found.tables[title] = rows
    return found, machine


def show(screen: Screen, found: Found, machine: Machine) -> None:
    """A table for each part, and what to know about the machine."""
    for title, rows in found.tables.items():
        screen.title(title)
        cells = [row.cells() for row in rows]
        screen.table(HEADERS, [[*each[:2], *each[3:]] for each in cells])
        screen.line()
    print_notes(screen, machine.facts())


def to_json(found: Found) -> Json:
    return {
        title: [{k: v for k, v in row.to_json().items() if k != "peer"} for row in rows]
        for title, rows in found.tables.items()
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--only",
    "parts",
    type=click.Choice(PARTS),
    multiple=True,
    default=PARTS,
    help="Only this part; may be given several times.",
)
@click.option("--seconds", type=click.FloatRange(min=4), default=40.0, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@click.option("--tokens", "length", type=click.IntRange(8, 256), default=128, show_default=True)
@click.option(
    "--backlog",
    type=click.IntRange(min=2_000),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Jobs that wait.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(
    *, parts: tuple[str, ...], seconds: float, runs: int, length: int, backlog: int, output: str
) -> None:
    """Measure jobs beside the Broker's ingress, the bare predictor and an empty queue.

    The exit code is 1 when a target is missed.

    \b
    Examples:
      python loadtests/jobs.py
      python loadtests/jobs.py --only intake --only latency --seconds 12
      python loadtests/jobs.py --only tokens --runs 1 --tokens 64
    """
    wanted = Wanted(parts, seconds, runs, length, backlog)
    found, machine = run("jobs", _measure(wanted))
    screen = Screen.stdout()
    if output == "text":
        show(screen, found, machine)
    else:
        screen.json({"machine": machine.to_json(), "tables": to_json(found)})
    if names := missed(list(found.tables.values())):
        raise SystemExit(f"missed: {', '.join(names)}")


if __name__ == "__main__":
    main()
