"""`relume explain` of a job: its phases over all attempts, and its cold starts."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from relume.cli.errors import BadUsage, NotAPlane
from relume.cli.machine.client import RING
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.job_story import life, milliseconds, show_life
from relume.cli.machine.jobs_client import JobsClient, Wanted
from relume.cli.machine.reports import ColdStartReport, EventRecord, Status
from relume.cli.machine.still import still
from relume.cli.machine.story import record_line, related, show_cold_start
from relume.cli.machine.which_event import chosen_id
from relume.cli.screen import Screen

JOB_PREFIX = "job_"
#: So many jobs are looked through for the one that an event became.
NEWEST_JOBS = 1000


class NoSuchJob(BadUsage):
    """No job has this id, and none of the newest has one that begins so."""


async def explain_job(url: str, job_id: str, output: str) -> int:
    """Show the life of one job. Raises NoSuchJob, and BadUsage when there are several."""
    async with JobsClient(url) as client:
        job = await _job(client, job_id)
        cold_starts, records, status = await _of_the_plane(client, job)
    screen = Screen.stdout()
    words = None if job.settled else still(records, status, datetime.now(UTC))
    if output == "json":
        screen.json(
            {
                **life_as_json(job),
                "cold_starts": [each.raw for each in cold_starts],
                "records": [record.raw for record in records],
                "still": words,
            }
        )
        return 0
    show_life(screen, job)
    if words:
        screen.line(f"  {words}", "yellow")
    if records:
        screen.line()
        for record in records:
            screen.draw_line(record_line(record))
    for each in cold_starts:
        screen.line()
        show_cold_start(screen, each)
    return 0


def life_as_json(job: JobReport) -> dict[str, object]:
    """A job and its phases."""
    phases = [{"phase": name, "ms": ms, "detail": words} for name, ms, words in life(job)]
    total_ms = milliseconds(job.created_at, job.settled_at)
    return {"id": job.id, "job": job.raw, "phases": phases, "total_ms": total_ms}


async def jobs_of(
    url: str, event_id: str, records: Sequence[EventRecord], source: str | None = None
) -> list[JobReport]:
    """The jobs that an event became: those that its records name, else among the newest jobs.

    A gateway has no records; there the beginning of the event's id is enough, too. An event that
    was delivered to two services is two jobs. Raises NotAPlane where nobody knows of jobs, Refused
    where a key is missing, and BadUsage where several ids begin so.
    """
    named = list(dict.fromkeys(each.id for each in records if each.is_job))
    found: list[JobReport] = []
    async with JobsClient(url) as client:
        for job_id in named:
            with contextlib.suppress(BadUsage):  # it was deleted, or its time is over
                found.append(await client.job(job_id))
        if records:
            return found
        newest = [job async for job in _first(client.jobs(Wanted()), NEWEST_JOBS)]
    came = [(job, event) for job in newest if (event := job.event) is not None]
    of_source = [
        (job, str(event.get("id"))) for job, event in came if source in (None, event.get("source"))
    ]
    whole_id = chosen_id((id_ for _, id_ in of_source), event_id)
    return [job for job, id_ in of_source if id_ == whole_id]


async def _job(client: JobsClient, job_id: str) -> JobReport:
    """The job that has this id, or the only one of the newest whose id begins so."""
    try:
        return await client.job(job_id)
    except BadUsage as error:
        newest = client.jobs(Wanted())
        ids = [job.id async for job in _first(newest, NEWEST_JOBS)]
        if (found := chosen_id(ids, job_id)) is None:
            raise NoSuchJob(f"{error}; `relume jobs list` shows those that are kept") from None
    return await client.job(found)


async def _first(jobs: AsyncIterator[JobReport], most: int) -> AsyncIterator[JobReport]:
    """The first `most` of them."""
    left = most
    async for job in jobs:
        yield job
        if (left := left - 1) == 0:
            return


async def _of_the_plane(
    client: JobsClient, job: JobReport
) -> tuple[list[ColdStartReport], list[EventRecord], Status | None]:
    """What a plane of this machine knows beside the job; a gateway knows nothing of it."""
    try:
        ledger = await client.cold_starts()
        async with client.events(replay=RING, follow=False) as records:
            told = related([each async for each in records], job.id)
        status = await client.status()
    except NotAPlane:
        return [], [], None
    return cold_starts_of(job, ledger), told, status


def cold_starts_of(job: JobReport, ledger: Sequence[ColdStartReport]) -> list[ColdStartReport]:
    """The starts of the job's service that were under way while a worker had the job, in order.

    A job may wait for a start that another request has caused, and its attempts for several.
    """
    if job.started_at is None:
        return []
    try:
        began = datetime.fromisoformat(job.started_at)
        ended = None if job.settled_at is None else datetime.fromisoformat(job.settled_at)
        mine = [each for each in ledger if f"{each.namespace}/{each.service}" == job.service]
        found = []
        for each in mine:
            at = datetime.fromisoformat(each.at)
            lasted = each.ready if each.ready is not None else each.ended
            over = None if lasted is None else at + timedelta(milliseconds=lasted)
            if (over is None or over >= began) and (ended is None or at <= ended):
                found.append(each)
    except ValueError:
        return []  # a plane of another version writes its times in another way
    return found
