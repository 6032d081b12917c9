"""What a Trigger's filter costs for each event, beside the same test as a plain Python lambda.

    python loadtests/filters.py                  medians of 7, a few seconds
    python loadtests/filters.py -o json          every sample, for a program

Each round measures all, filter and lambda one after the other, so that the machine's noise hits
both alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import Timer

import click
from figures import Figure, Machine, print_notes, shown, spread, verdict

from relume.cesql.program import compile
from relume.cli.screen import Screen
from relume.cloudevents.event import CloudEvent
from relume.config import All, Any_, Cesql, Exact, Filter, Negation, Prefix, Suffix
from relume.eventing.filters import Predicate, all_of

UNIT = "µs"
EXACT_BELOW = 5.0
CESQL_BELOW = 20.0
CALLS = 20_000  # in each sample
TYPE = "com.example.order.created"
EVENT = CloudEvent.create(
    {
        "id": "7f1c9c9e-6f5b-4a53-9a35-1f4c3f4f7a52",
        "source": "/shops/eu/17",
        "type": TYPE,
        "subject": "orders/4711",
        "time": "2026-11-23T12:00:00Z",
        "datacontenttype": "application/json",
        "tenant": "acme",
        "amount": "1200",
    }
)
THREE_TERMS = "type LIKE 'com.example.%' AND tenant = 'acme' AND amount > 1000"

Lambda = Callable[[CloudEvent], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """One filter, the lambda that says the same, and the most that the filter may cost."""

    name: str
    filter: Filter
    same: Lambda
    below: float | None = None


CASES = (
    Case("exact", Exact({"type": TYPE}), lambda e: e.attributes.get("type") == TYPE, EXACT_BELOW),
    Case(
        "exact, another type",
        Exact({"type": "com.example.other"}),
        lambda e: e.attributes.get("type") == "com.example.other",
        EXACT_BELOW,
    ),
    Case(
        "prefix",
        Prefix({"type": "com.example."}),
        lambda e: str(e.attributes.get("type", "")).startswith("com.example."),
        EXACT_BELOW,
    ),
    Case(
        "suffix",
        Suffix({"source": "/17"}),
        lambda e: str(e.attributes.get("source", "")).endswith("/17"),
        EXACT_BELOW,
    ),
    Case(
        "nested: all, any, not",
        All(
            (
                Any_((Exact({"type": "x"}), Exact({"type": TYPE}))),
                Negation(Exact({"tenant": "umbrella"})),
            )
        ),
        lambda e: (
            e.attributes.get("type") in ("x", TYPE) and e.attributes.get("tenant") != "umbrella"
        ),
    ),
    Case(
        "cesql, three terms",
        Cesql(THREE_TERMS),
        lambda e: (
            str(e.attributes.get("type", "")).startswith("com.example.")
            and e.attributes.get("tenant") == "acme"
            and int(e.attributes.get("amount", 0)) > 1000
        ),
        CESQL_BELOW,
    ),
    Case(
        "cesql, an attribute is missing",
        Cesql("tier = 'gold' AND tenant = 'acme' AND amount > 1000"),
        lambda e: e.attributes.get("tier") == "gold",
        CESQL_BELOW,
    ),
)


def measure(rounds: int = 7) -> list[Figure]:
    """Microseconds an event for each case; the baseline is its lambda."""
    pairs = [(all_of([case.filter]), case.same) for case in CASES]
    for case, (wanted, same) in zip(CASES, pairs, strict=True):
        assert wanted(EVENT) is same(EVENT), case.name
    ours: list[list[float]] = [[] for _ in CASES]
    theirs: list[list[float]] = [[] for _ in CASES]
    for _ in range(rounds):
        for i, (wanted, same) in enumerate(pairs):
            ours[i].append(microseconds(wanted))
            theirs[i].append(microseconds(same))
    return [
        Figure(case.name, UNIT, tuple(ours[i]), tuple(theirs[i]), below=case.below)
        for i, case in enumerate(CASES)
    ]


def compiling(rounds: int = 7) -> Figure:
    """What it costs to compile the expression of three terms, once for each Trigger."""
    timer = Timer("compile(text)", globals={"compile": compile, "text": THREE_TERMS})
    samples = tuple(timer.timeit(500) / 500 * 1e6 for _ in range(rounds))
    return Figure("compile three terms, once", UNIT, samples)


def microseconds(test: Predicate) -> float:
    """One call, the mean of many."""
    timer = Timer("test(event)", globals={"test": test, "event": EVENT})
    return timer.timeit(CALLS) / CALLS * 1e6


def show(screen: Screen, figures: Sequence[Figure], machine: Machine) -> None:
    """The table, and what it was measured on."""
    screen.title(f"a filter, for each event: medians of {len(figures[0].samples)}")
    headers = ("filter", "median", "least … most", "of a lambda", "target", "verdict")
    rows = [
        [
            figure.name,
            shown(figure.median, UNIT),
            spread(figure.samples, 2),
            f"{1 / figure.ratio:.1f}×" if figure.ratio else "",
            figure.target,
            verdict(figure.holds),
        ]
        for figure in figures
    ]
    screen.table(headers, rows)
    print_notes(screen, machine.facts())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, metavar="N")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, rounds: int, output: str) -> None:
    """Measure what the filters of a Trigger cost for each event.

    A missed target is shown and is not a failure.

    \b
    Examples:
      python loadtests/filters.py
      python loadtests/filters.py --rounds 21 -o json > filters.json
    """
    machine = Machine.now()
    figures = [*measure(rounds), compiling(rounds)]
    screen = Screen.stdout()
    if output == "text":
        show(screen, figures, machine)
        return
    shown_figures = [figure.to_json() for figure in figures]
    screen.json({"machine": machine.to_json(), "figures": shown_figures})


if __name__ == "__main__":
    main()
