"""`relume explain ID`: why the answer to one event took as long as it did."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import click

from relume.base.vocabulary import Json
from relume.cli.errors import BadUsage, NotAPlane
from relume.cli.machine.client import RING, PlaneClient, find_plane
from relume.cli.machine.job_life import JOB_PREFIX, NEWEST_JOBS, explain_job, jobs_of, life_as_json
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.job_story import show_life
from relume.cli.machine.reports import ColdStartReport, EventRecord
from relume.cli.machine.story import (
    attributes,
    find_cold_start,
    is_answer,
    phase_lines,
    record_line,
    related,
    sentence,
    show_cold_start,
)
from relume.cli.machine.time_spent import time_spent
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen


@click.command("explain", short_help="Why the answer to one event took as long as it did.")
@click.argument("event_id", metavar="ID")
@output_option
@plane_option
def command(*, event_id: str, output: str, url: str | None) -> int:
    """Show the life of one event: its deliveries, where its time went, the cold start, its answer.

    The answer to an answer belongs to it as well, so a pipeline is shown from step to step. Of a
    job (its id begins with job_) it shows where the time went, over all attempts, and the cold
    starts that it waited for; of an event that became a job it shows the life of that job, too.

    The plane remembers up to 1,000 records (16 MiB of them) and 100 cold starts. A gateway (--url)
    remembers neither: it knows jobs, and among the newest 1,000 of them the events that they were.
    An API key or token for it is read from $RELUME_KEY.

    \b
    Examples:
      relume explain 7f1c9c9e-6f5b-4a53-9a35-1f4c3f4f7a52
      relume explain article-1 -o json
      relume explain JOB_ID
    """
    if event_id.startswith(JOB_PREFIX):
        return asyncio.run(explain_job(find_plane(url), event_id, output))
    plane = find_plane(url)
    records, ledger, answer, jobs = asyncio.run(_fetch_all(plane, event_id))
    if not records:
        if not jobs:
            raise BadUsage(
                f"{event_id}: no such event among the last records of the plane, and none of the "
                f"newest {NEWEST_JOBS:,} jobs came as it"
            )
        return max(asyncio.run(explain_job(plane, job.id, output)) for job in jobs)
    cold_start = find_cold_start(ledger, event_id, answer)
    screen = Screen.stdout()
    if output == "json":
        screen.json(
            {
                "id": event_id,
                "records": [record.raw for record in records],
                "cold_start": cold_start.raw if cold_start else None,
                "answer": answer,
                "total_ms": total_ms(records),
                "jobs": [life_as_json(job) for job in jobs],
                "spent_ms": time_spent(records, cold_start),
            }
        )
        return 0
    _show(screen, event_id, records, cold_start, answer)
    for job in jobs:
        screen.line()
        show_life(screen, job)
    return 0


async def _fetch_all(
    url: str, event_id: str
) -> tuple[list[EventRecord], tuple[ColdStartReport, ...], Json | None, list[JobReport]]:
    """What a plane or a gateway knows of an event, and the jobs that it became."""
    no_plane: NotAPlane | None = None
    records: list[EventRecord] = []
    ledger: tuple[ColdStartReport, ...] = ()
    answer: Json | None = None
    try:
        records, ledger, answer = await _fetch(url, event_id)
    except NotAPlane as error:
        no_plane = error  # it may be a gateway
    try:
        return records, ledger, answer, await jobs_of(url, event_id, records)
    except NotAPlane:
        if no_plane is not None:
            raise no_plane from None
        return records, ledger, answer, []


async def _fetch(
    url: str, event_id: str
) -> tuple[list[EventRecord], tuple[ColdStartReport, ...], Json | None]:
    """The records of an event and of all that answers it, the ledger, and the whole answer."""
    async with PlaneClient(url) as plane:
        async with plane.events(replay=RING, follow=False) as records:
            gathered = related([each async for each in records], event_id)
        found = next((record for record in gathered if is_answer(record.event)), None)
        answer = await plane.whole(found) if found is not None else None
        return gathered, await plane.cold_starts(), answer


def total_ms(records: Sequence[EventRecord]) -> float | None:
    """Milliseconds from the first record to the last; None when the times do not parse."""
    try:
        times = [datetime.fromisoformat(record.at) for record in records]
    except ValueError:
        return None
    return (max(times) - min(times)).total_seconds() * 1000


def _show(
    screen: Screen,
    event_id: str,
    records: Sequence[EventRecord],
    cold_start: ColdStartReport | None,
    answer: Json | None,
) -> None:
    total = total_ms(records)
    took = f", {total:,.0f} ms from first to last record" if total is not None else ""
    screen.title(f"{event_id}{took}")
    for record in records:
        screen.draw_line(record_line(record))
    if spent := time_spent(records, cold_start):
        screen.line()
        screen.title("where the time went")
        width = max(10, min(60, screen.console.width - 42))
        for text in phase_lines(spent, bars=screen.terminal, width=width):
            screen.draw_line(text)
    if cold_start is not None:
        screen.line()
        show_cold_start(screen, cold_start)
    if answer is not None:
        screen.line()
        screen.line(sentence(answer), "bold")
        screen.pairs(attributes(answer))
