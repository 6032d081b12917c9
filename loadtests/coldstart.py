"""From process start, or from zero, to the first token: Relume beside `vllm serve`.

    python loadtests/coldstart.py                        medians of 5, about 15 minutes
    python loadtests/coldstart.py --runs 9 -o json       every sample, for a program

Each round measures all, in an order that rotates, so that the machine's noise hits all alike.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import click
from figures import Figure, Machine, chart, print_notes, rows, save_chart
from processes import kept_on_failure
from running import run, steps
from scenes import (
    AT_ZERO,
    EVENT,
    HTTP,
    MODES,
    READY,
    SERVES,
    STATUS,
    STEPS_A_ROUND,
    VLLM,
    VLLM_READY,
    ColdStarts,
)
from servers import sample_workload

from relume.base.vocabulary import ANSWER_PHASE, COLD_START_PHASES
from relume.cli.screen import Screen
from relume.config.resources import ZeroMode

PHASES = (*COLD_START_PHASES, ANSWER_PHASE)
RESULTS = Path(__file__).resolve().parent / "results"
TARGETS: Mapping[str, float] = {
    EVENT["engine"]: 40.0,
    EVENT["template"]: 20.0,
    EVENT["process"]: 4.0,
}
UP_TARGET_S = 1.0
#: What the whole plane holds at zero.
ZERO_TARGETS_MB: Mapping[ZeroMode, float] = {"process": 250.0, "template": 500.0}
#: The part of a start's time that the ledger's phases must be.
ACCOUNTED = 0.97


def times(samples: Mapping[str, list[float]]) -> list[Figure]:
    """The figures in seconds, the peer first."""
    vllm = tuple(samples[VLLM])
    names = [name for mode in MODES for name in (EVENT[mode], HTTP[mode])]
    ours = [
        Figure(name, "s", tuple(samples[name]), vllm, at_least=TARGETS.get(name)) for name in names
    ]
    return [Figure(VLLM, "s", vllm, vllm), *ours]


def starts(samples: Mapping[str, list[float]]) -> list[Figure]:
    """How soon the plane itself is there."""
    names = [name[mode] for name in (STATUS, SERVES) for mode in MODES]
    return [Figure(name, "s", tuple(samples[name]), below=UP_TARGET_S) for name in names]


def memory(samples: Mapping[str, list[float]]) -> list[Figure]:
    """The figures in MB."""
    at_zero = [
        Figure(AT_ZERO[m], "MB", tuple(samples[AT_ZERO[m]]), below=ZERO_TARGETS_MB.get(m))
        for m in MODES
    ]
    names = (*(READY[mode] for mode in MODES), VLLM_READY)
    return [*at_zero, *(Figure(name, "MB", tuple(samples[name])) for name in names)]


def phase_medians(phases: Mapping[str, list[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Median milliseconds of each phase, by how the predictor was started."""
    return {
        started: {
            name: round(median(known), 1)
            for name in PHASES
            if (known := [entry[name] for entry in entries if name in entry])
        }
        for started, entries in phases.items()
    }


def show(screen: Screen, found: ColdStarts, machine: Machine, picture: Path) -> None:
    """The tables, the chart where there is a terminal, and where the picture is."""
    runs = len(found.samples[VLLM])
    first = times(found.samples)
    screen.title(f"first token: medians of {runs}")
    headers = ("measure", "median", "least … most", "sooner", "target", "verdict")
    screen.table(headers, rows(first))
    bars = chart(first)
    if screen.terminal:
        for line in bars:
            screen.draw_line(line)
    save_chart(bars, "first token, seconds", picture)
    for title, figures in (
        ("the plane itself", starts(found.samples)),
        ("memory (PSS of all processes)", memory(found.samples)),
    ):
        screen.line()
        screen.title(title)
        table = [[row[i] for i in (0, 1, 2, 4, 5)] for row in rows(figures)]
        screen.table([headers[i] for i in (0, 1, 2, 4, 5)], table)
    medians = phase_medians(found.phases)
    screen.line()
    screen.title("where a cold start's time goes, ms")
    ways = [way for way in ("fresh", "template", "engine") if way in medians]
    screen.table(
        ("phase", *ways),
        [[name, *(f"{medians[w].get(name, 0):,.0f}" for w in ways)] for name in PHASES],
    )
    for way in ways:
        share = median(found.accounted[way])
        verdict = "holds" if share >= ACCOUNTED else "missed"
        screen.line(f"{way}: the phases are {share:.1%} of the time (≥ {ACCOUNTED:.0%}: {verdict})")
    print_notes(screen, [*machine.facts(), ("picture", os.path.relpath(picture))])


async def _measure(runs: int, warm_up: bool) -> tuple[ColdStarts, Machine]:
    machine = Machine.now()
    workload = sample_workload()
    total = runs * STEPS_A_ROUND + warm_up
    with kept_on_failure("relume-coldstart-") as folder, steps(total) as progress:
        found = ColdStarts(workload, folder, progress)
        await found.measure(runs, warm_up=warm_up)
    return found, machine


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@click.option(
    "--no-warm-up", is_flag=True, help="Skip the start of vllm serve that is not counted."
)
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS / "coldstart.svg",
    metavar="FILE",
    help="Where the picture goes. Default: loadtests/results/coldstart.svg.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, runs: int, no_warm_up: bool, svg: Path, output: str) -> None:
    """Measure how soon the first token comes, beside `vllm serve` with the same flags.

    Takes about three minutes a run. A missed target is shown and is not a failure: the exit code is
    1 only when something could not be measured.

    \b
    Examples:
      python loadtests/coldstart.py
      python loadtests/coldstart.py --runs 1 --no-warm-up     a quick look
      python loadtests/coldstart.py --runs 9 -o json > coldstart.json
    """
    found, machine = run("coldstart", _measure(runs, not no_warm_up))
    screen = Screen.stdout()
    if output == "text":
        show(screen, found, machine, svg)
        return
    figures = [*times(found.samples), *starts(found.samples), *memory(found.samples)]
    screen.json(
        {
            "machine": machine.to_json(),
            "figures": [figure.to_json() for figure in figures],
            "phases_ms": phase_medians(found.phases),
            "accounted": {way: round(median(parts), 4) for way, parts in found.accounted.items()},
        }
    )


if __name__ == "__main__":
    main()
