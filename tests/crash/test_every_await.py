"""Whoever is killed, wherever the code can be suspended, every accepted event comes to one end.

First each scenario runs undisturbed and tells which points it reaches and how often. Then it runs
once for every point and victim, with a kill there, until all is at rest; the books are checked from
outside, from what the producer was told, the subscriber saw and the log holds. `make crash` tries
every phase of every point for every victim.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.closing_lines import say_at_the_end
from tests.crash.await_points import PHASES, Trap, all_points
from tests.crash.processes import Victim
from tests.crash.trial import Tally, Trial

SCENARIOS = ("life", "redrive", "stop", "outage", "kafka", "nats", "flows")
AT_ONCE = 12
# Where a delivery is under way, and the death of its subscriber can be met.
DELIVERING = ("delivery.courier", "delivery.burial", "delivery.dispatcher")
# The fake log and what serves documents hold no event of a real Broker.
ELSEWHERE = ("testing", "observer", "registry.documents")
# Tried by test_jobs_every_await.py.
JOBS = ("jobs.", "jetstream.job")


async def _reached(folder: Path) -> tuple[dict[str, tuple[str, int]], set[str]]:
    """For each point the first scenario that gets there, and how often it does.

    Also the points that an event of a flow gets to.
    """

    async def reached(scenario: str) -> Counter[str]:
        place = folder / scenario
        place.mkdir()
        trial = Trial(place, scenario)
        books = await trial.run()
        assert not books.lost() and not books.settled_twice() and books.conserved()
        return trial.reached()

    async with asyncio.TaskGroup() as group:
        every = {each: group.create_task(reached(each)) for each in SCENARIOS}
    found: dict[str, tuple[str, int]] = {}
    for scenario, points in every.items():
        for point, times in points.result().items():
            found.setdefault(point, (scenario, times))
    return found, set(every["flows"].result())


def _plans(
    reached: dict[str, tuple[str, int]], in_flows: set[str], every_phase: bool
) -> Iterator[tuple[str, Trap, Victim]]:
    """Before one point is after another, so a kill before is only tried where all are.

    A delivery is killed in a flow as well, where its reply goes into another log.
    """
    for point in sorted(in_flows):
        if reached[point][0] != "flows" and point.partition(":")[0] in DELIVERING:
            yield "flows", Trap(point, "after", 1), "plane"
    for point, (scenario, times) in sorted(reached.items()):
        for phase in PHASES if every_phase else PHASES[1:]:
            yield scenario, Trap(point, phase, 1), "plane"
        if times > 2 and every_phase:
            yield scenario, Trap(point, "during", (times + 1) // 2), "plane"
        yield scenario, Trap(point, "during", 1), "nats-server"
        if every_phase or point.partition(":")[0] in DELIVERING:
            yield scenario, Trap(point, "during", 1), "subscriber"


async def _verdicts(
    folder: Path, plans: Sequence[tuple[str, Trap, Victim]], tally: Tally
) -> list[str]:
    """Run every plan, a few at once; what went wrong, in words."""
    wrong: list[str] = []
    free = asyncio.Semaphore(AT_ONCE)

    async def judge(number: int, scenario: str, trap: Trap, victim: Victim) -> None:
        async with free:
            place = folder / str(number)
            place.mkdir()
            trial = Trial(place, scenario, trap, victim)
            what = f"{scenario}: {victim} killed {trap}"
            try:
                books = await trial.run()
            except TimeoutError:
                wrong.append(f"{what}: no rest: {trial.books}\n{trial.last_words()}")
                return
            tally.add(trap, books)
            if books.lost() or books.settled_twice() or not books.conserved():
                wrong.append(f"{what}: {books}")

    async with asyncio.TaskGroup() as group:
        for number, plan in enumerate(plans):
            group.create_task(judge(number, *plan))
    return wrong


@pytest.mark.crash
@pytest.mark.timeout(900)
async def test_a_kill_at_any_await_loses_nothing_and_settles_nothing_twice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tally = Tally()
    reached, in_flows = await _reached(tmp_path)
    plans = list(_plans(reached, in_flows, request.config.getoption("every_phase")))
    tally.untried = [
        point
        for point in all_points()
        if point not in reached
        and point.partition(":")[0] not in ELSEWHERE
        and not point.startswith(JOBS)
    ]
    (tmp_path / "trials").mkdir()
    wrong = await _verdicts(tmp_path / "trials", plans, tally)
    say_at_the_end(request.node, str(tally))
    assert not wrong, "\n".join(wrong)
    assert tally.tried == len(plans)


def test_the_points_are_those_of_the_source() -> None:
    points = all_points()
    assert len(points) == len(set(points)) > 100
    modules = {point.partition(":")[0] for point in points}
    assert {"delivery.courier", "delivery.burial", "delivery.dispatcher", "ingress"} <= modules
    assert {"jetstream.log", "jetstream.store", "cloudevents.asgi"} <= modules
