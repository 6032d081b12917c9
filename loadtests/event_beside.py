"""Side by side: one or two checkouts and raw JetStream take turns, and what they are asked for."""

import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from event_ratios import Beside, Cells
from event_stands import Side, Stand, stand
from event_turns import Raw, Times, Turn, raw, turn
from event_where import WAITS, Where, where
from figures import print_notes
from processes import MeasurementFailed, kept_on_failure
from running import Steps

from relume.cli.screen import Screen


def sides(other: Path | None) -> list[Side]:
    """This checkout, and the other one if there is one. Raises MeasurementFailed."""
    new = Side("new", sys.executable)
    if other is None:
        return [new]
    python = other.absolute() / ".venv" / "bin" / "python"
    if not python.exists():
        raise MeasurementFailed(f"--beside {other}: {python} is missing, run `make venv` there")
    return [new, Side("old", str(python))]


async def beside(asked: list[Side], turns: int, times: Times, progress: Steps) -> Beside:
    """All sides up at once and loaded in turns, with raw JetStream at the end of each turn."""
    found: list[list[Turn]] = []
    raws: list[Raw] = []
    with kept_on_failure("relume-eventing-") as folder:
        async with AsyncExitStack() as stack:
            stands: list[Stand] = [
                await stack.enter_async_context(stand(side, folder)) for side in asked
            ]
            for number in range(turns):
                progress.begin(f"turn {number + 1} of {turns}")
                found.append(await turn(stands, number, times))
                progress.begin(f"turn {number + 1} of {turns}: raw JetStream")
                raws.append(await raw(found[-1][0].half, times))
    new, *old = (tuple(each) for each in zip(*found, strict=True))
    return Beside(new, old[0] if old else (), tuple(raws))


async def where_by_side(asked: list[Side], seconds: float, progress: Steps) -> Mapping[str, Where]:
    """By side, where an event's time goes."""
    found = {}
    for side in asked:
        progress.begin(f"where the time goes: {side.name}")
        found[side.name] = await where(side, seconds)
    return found


def show_beside(screen: Screen, found: Beside) -> None:
    """The tables of the sides; every figure is a median with its least and its most."""
    targets = [each.cells() for each in found.targets()]
    for title, (head, rows) in {
        "the event path": found.sides(),
        "raw JetStream with nats-py": found.raws(),
        "targets of the event path": (["ratio", "found", "target", ""], targets),
    }.items():
        screen.title(title)
        screen.table(head, rows)
        screen.line()
    late = f"{found.late_p99_ms:.1f} ms (p99 of the worst turn)"
    print_notes(screen, [("open loops posted late by", late)])


def show_where(screen: Screen, found: Mapping[str, Where]) -> None:
    """CPU time by stage, and the waiting by load."""
    stages = {stage: None for each in found.values() for stage in each.cpu_us}
    screen.title("CPU time of an event in the plane, 16 producers")
    rows: list[Cells] = [
        [stage, *(f"{each.cpu_us.get(stage, 0.0):,.0f} µs" for each in found.values())]
        for stage in stages
    ]
    total: Cells = ["all", *(f"{sum(each.cpu_us.values()):,.0f} µs" for each in found.values())]
    samples: Cells = ["samples", *(f"{each.samples:,}" for each in found.values())]
    screen.table(["stage", *found], [*rows, total, samples])
    for name, each in found.items():
        screen.line()
        screen.title(f"functions with the most CPU time of their own: {name}")
        screen.table(
            ("function", "time"), [[at, f"{us:,.0f} µs"] for at, us in each.places_us.items()]
        )
        screen.line()
        screen.title(f"waiting from post to subscriber: {name}")
        head = ["until", *(f"at {waits.load}" for waits in each.waits)]
        screen.table(head, _waiting(each))
        if each.missing:
            print_notes(screen, [("never noted", ", ".join(each.missing))])


def _waiting(found: Where) -> list[Cells]:
    rows: list[Cells] = [["events a second", *(f"{each.rate:,.0f}" for each in found.waits)]]
    for moment, words in WAITS.items():
        if words and any(moment in each.ms for each in found.waits):
            rows.append([words, *(_ms(each.ms.get(moment, 0.0)) for each in found.waits)])
    rows.append(["all, on average", *(_ms(each.whole_ms) for each in found.waits)])
    rows.append(["  p50", *(_ms(each.p50_ms) for each in found.waits)])
    rows.append(["  p99", *(_ms(each.p99_ms) for each in found.waits)])
    rows.append(["beside it: until stored", *(_ms(each.stored_ms) for each in found.waits)])
    return rows


def _ms(value: float) -> str:
    return f"{value:,.2f} ms"
