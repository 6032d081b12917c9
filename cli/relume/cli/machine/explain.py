"""`relume explain ID`: why the answer to one event took as long as it did."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from relume.base.vocabulary import Json
from relume.cli.errors import BadUsage, NotAPlane
from relume.cli.machine.client import RING, PlaneClient, find_plane
from relume.cli.machine.job_life import (
    JOB_PREFIX,
    NEWEST_JOBS,
    NoSuchJob,
    explain_job,
    jobs_of,
    life_as_json,
)
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.job_story import show_life
from relume.cli.machine.reports import ColdStartReport, EventRecord, Status
from relume.cli.machine.starts import waited_for
from relume.cli.machine.still import still
from relume.cli.machine.story import (
    attributes,
    cold_start_of,
    is_answer,
    phase_lines,
    record_line,
    sentence,
    show_cold_start,
)
from relume.cli.machine.time_spent import answered_ms, hints, time_spent, total_ms
from relume.cli.machine.which_event import chosen_id, known_ids, records_of, unknown
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen


@dataclass(frozen=True, slots=True)
class Found:
    """What a plane or a gateway knows of an event; `status` is None for a gateway."""

    id: str
    records: Sequence[EventRecord] = ()
    cold_starts: Sequence[ColdStartReport] = ()
    answer: Json | None = None
    jobs: Sequence[JobReport] = ()
    status: Status | None = None

    @property
    def spent(self) -> Mapping[str, float]:
        return time_spent(self.records, self.cold_starts)


@click.command("explain", short_help="Why the answer to one event took as long as it did.")
@click.argument("event_id", metavar="ID")
@click.option("--source", metavar="URI", help="The event's source, where several have this id.")
@output_option
@plane_option
def command(*, event_id: str, source: str | None, output: str, url: str | None) -> int:
    """Show the life of one event: its deliveries, where its time went, cold starts, its answer.

    ID is the id of an event or of a job, or the beginning of one if no other id begins so.
    `relume events --replay 1000 --no-follow` and `relume jobs list` show ids.

    The parts of the time sum to the time from the arrival of the event to its last record. The
    answer to an answer belongs to the event as well, so a pipeline is shown from step to step. Of
    an event that has no answer yet it says what the event waits for.

    Of a job (its id begins with job_) it shows where the time went, over all attempts, and the cold
    starts that it waited for; of an event that became a job it shows the life of that job, too.

    The plane remembers up to 1,000 records (16 MiB of them) and 100 cold starts, and forgets them
    when it stops; jobs it keeps. A gateway (--url) remembers neither: it knows jobs, and among the
    newest 1,000 of them the events that they were. An API key or token for it is read from
    $RELUME_KEY.

    \b
    A request over HTTP that is neither has no record. Its answer has two headers:
      relume-queue-ms       how long it waited for a replica
      relume-cold-start-ms  how long the start took, if it waited for one

    \b
    Examples:
      relume explain 7f1c9c9e-6f5b-4a53-9a35-1f4c3f4f7a52
      relume explain 7f1c
      relume explain article-1 --source /articles -o json
      relume explain JOB_ID
    """
    if not event_id:
        raise BadUsage("ID is empty; `relume events --replay 1000 --no-follow` shows ids")
    plane = find_plane(url)
    no_job: NoSuchJob | None = None
    if event_id.startswith(JOB_PREFIX):
        try:
            return asyncio.run(explain_job(plane, event_id, output))
        except NoSuchJob as error:
            no_job = error  # a sender may give its event such an id, too
    found = asyncio.run(_fetch_all(plane, event_id, source))
    if not found.records:
        if not found.jobs:
            if no_job is not None:
                raise no_job
            started_at = None if found.status is None else found.status.started_at
            raise BadUsage(unknown(event_id, started_at, NEWEST_JOBS))
        return max(asyncio.run(explain_job(plane, job.id, output)) for job in found.jobs)
    screen = Screen.stdout()
    if output == "json":
        screen.json(_as_json(found))
        return 0
    _show(screen, found)
    for job in found.jobs:
        screen.line()
        show_life(screen, job)
    return 0


async def _fetch_all(url: str, event_id: str, source: str | None) -> Found:
    """What a plane or a gateway knows of an event, and the jobs that it became."""
    no_plane: NotAPlane | None = None
    found = Found(event_id)
    try:
        found = await _fetch(url, event_id, source)
    except NotAPlane as error:
        no_plane = error  # it may be a gateway
    try:
        jobs = await jobs_of(url, found.id, found.records, source)
    except NotAPlane:
        if no_plane is not None:
            raise no_plane from None
        return found
    return Found(found.id, found.records, found.cold_starts, found.answer, jobs, found.status)


async def _fetch(url: str, event_id: str, source: str | None) -> Found:
    """The records of an event and of all that answers it, its cold starts, and the whole answer."""
    async with PlaneClient(url) as plane:
        async with plane.events(replay=RING, follow=False) as stream:
            every = [record async for record in stream]
        status = await plane.status()
        found_id = chosen_id(known_ids(every), event_id)
        if found_id is None:
            return Found(event_id, status=status)
        records = records_of(every, found_id, source)
        last = next((record for record in records if is_answer(record.event)), None)
        answer = await plane.whole(last) if last is not None else None
        cold_starts = waited_for(records, await plane.cold_starts(), answer)
        if not cold_starts and answer is not None:
            # The plane completes the entry of a start a moment after the answer has begun.
            late = await cold_start_of(plane.cold_starts, found_id, answer)
            cold_starts = [] if late is None else [late]
        return Found(found_id, records, cold_starts, answer, status=status)


def _as_json(found: Found) -> dict[str, object]:
    cold_starts = [each.raw for each in found.cold_starts]
    return {
        "id": found.id,
        "records": [record.raw for record in found.records],
        "cold_start": cold_starts[-1] if cold_starts else None,
        "cold_starts": cold_starts,
        "answer": found.answer,
        "total_ms": total_ms(found.records),
        "answered_ms": answered_ms(found.records),
        "jobs": [life_as_json(job) for job in found.jobs],
        "spent_ms": found.spent,
        "still": still(found.records, found.status, datetime.now(UTC)),
    }


def _show(screen: Screen, found: Found) -> None:
    total, answered = total_ms(found.records), answered_ms(found.records)
    took = "" if total is None else f", {total:,.0f} ms from its arrival to the last record"
    if answered is not None and total is not None and round(answered) < round(total):
        took = f", answered after {answered:,.0f} ms{took}"
    screen.title(f"{found.id}{took}")
    for record in found.records:
        screen.draw_line(record_line(record))
    if words := still(found.records, found.status, datetime.now(UTC)):
        screen.line(words, "yellow")
    if spent := found.spent:
        screen.line()
        screen.title("where the time went")
        width = max(10, min(60, screen.console.width - 42))
        for text in phase_lines(spent, bars=screen.terminal, width=width):
            screen.draw_line(text)
        for hint in hints(spent):
            screen.line(f"  {hint}", "dim")
    for cold_start in found.cold_starts:
        screen.line()
        show_cold_start(screen, cold_start)
    if found.answer is not None:
        screen.line()
        screen.line(sentence(found.answer), "bold")
        screen.pairs(attributes(found.answer))
