"""Whoever is harmed, wherever the code of jobs can be suspended, every accepted job settles once.

First each scenario runs undisturbed and tells which points it reaches. Then it runs once for each
point with harm done there: the gateway, the predictor or nats-server is killed, nobody answers for
a while, the disk is full, or the clock jumps ahead or back. At rest the books are checked by a
program that shares no code with the gateway. `make jobs-trial` tries every point with the death of
the gateway, and two of three with another harm. `--every-harm` tries every phase of every point
with all of them, for an hour. Without both, a sample is tried that is spread over the code.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.closing_lines import say_at_the_end
from tests.crash.await_points import PHASES, Trap, all_points
from tests.crash.job_processes import JOB_VICTIMS, JobVictim
from tests.crash.job_trial import JOB_SCENARIOS, JobTally, JobTrial

AT_ONCE = 10
SAMPLE = 40
# What jobs add to the code; the rest is tried by `test_every_await.py`.
CODE = ("jobs.", "jetstream.jobs", "jetstream.job_")
Plan = tuple[str, Trap, JobVictim]


def _is_of_jobs(point: str) -> bool:
    return point.startswith(CODE) and not point.startswith("jobs.testing")


async def _reached(folder: Path) -> dict[str, tuple[str, int]]:
    """For each point the first scenario that gets there, and how often it does."""

    async def reached(scenario: str) -> Counter[str]:
        place = folder / scenario
        place.mkdir()
        trial = JobTrial(place, scenario)
        books = await trial.run()
        assert books.sound, f"{scenario}, undisturbed: {books}\n{trial.last_words()}"
        return trial.reached()

    async with asyncio.TaskGroup() as group:
        every = {each: group.create_task(reached(each)) for each in JOB_SCENARIOS}
    found: dict[str, tuple[str, int]] = {}
    for scenario, points in every.items():
        for point, times in points.result().items():
            if _is_of_jobs(point) or point.startswith("delivery.dispatcher"):
                found.setdefault(point, (scenario, times))
    return found


def _all_plans(reached: dict[str, tuple[str, int]]) -> Iterator[Plan]:
    """Every phase for the gateway, which holds the state; `during` for everybody else."""
    for point, (scenario, times) in sorted(reached.items()):
        for phase in PHASES:
            yield scenario, Trap(point, phase, 1), "gateway"
        if times > 2:
            yield scenario, Trap(point, "during", (times + 1) // 2), "gateway"
        for victim in JOB_VICTIMS[1:]:
            yield scenario, Trap(point, "during", 1), victim


def _most_plans(reached: dict[str, tuple[str, int]]) -> Iterator[Plan]:
    """At each point the death of the gateway, its phases in turn; at two of three another harm."""
    others = itertools.cycle(JOB_VICTIMS[1:])
    for number, (point, (scenario, _)) in enumerate(sorted(reached.items())):
        yield scenario, Trap(point, PHASES[number % len(PHASES)], 1), "gateway"
        if number % 3:
            yield scenario, Trap(point, "during", 1), next(others)


def _sample(plans: Sequence[Plan]) -> list[Plan]:
    """Plans spread evenly over all, so that every module and every victim is among them."""
    step = max(1, round(len(plans) / SAMPLE)) | 1  # odd, so that it does not keep to one victim
    return list(plans[::step])


def _plans(reached: dict[str, tuple[str, int]], config: pytest.Config) -> list[Plan]:
    if config.getoption("every_harm"):
        return list(_all_plans(reached))
    plans = list(_most_plans(reached))
    return plans if config.getoption("every_phase") else _sample(plans)


async def _verdicts(folder: Path, plans: Sequence[Plan], tally: JobTally) -> list[str]:
    """Run every plan, a few at once; what went wrong, in words."""
    wrong: list[str] = []
    free = asyncio.Semaphore(AT_ONCE)

    async def judge(number: int, scenario: str, trap: Trap, victim: JobVictim) -> None:
        async with free:
            place = folder / str(number)
            place.mkdir()
            trial = JobTrial(place, scenario, trap, victim)
            what = f"{scenario}: {victim} harmed {trap} ({place})"
            try:
                books = await trial.run()
            except TimeoutError:
                wrong.append(f"{what}: no rest:\n{trial.books}\n{trial.last_words()}")
                return
            tally.add(trap, victim, trial.fired, books)
            if not books.sound:
                wrong.append(f"{what}:\n{books}")

    async with asyncio.TaskGroup() as group:
        for number, plan in enumerate(plans):
            group.create_task(judge(number, *plan))
    return wrong


@pytest.mark.crash
@pytest.mark.timeout(5400)
async def test_harm_at_any_await_loses_no_job_and_settles_none_twice(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tally = JobTally()
    reached = await _reached(tmp_path)
    plans = _plans(reached, request.config)
    tally.untried = [point for point in all_points() if point not in reached and _is_of_jobs(point)]
    (tmp_path / "trials").mkdir()
    wrong = await _verdicts(tmp_path / "trials", plans, tally)
    say_at_the_end(request.node, str(tally))
    assert not wrong, "\n".join(wrong)
    assert tally.tried == len(plans)
