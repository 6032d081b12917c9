"""`relume explain` of a job: its phases over all attempts, and its cold starts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from relume.cli.errors import NotAPlane
from relume.cli.machine.client import RING
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.job_story import life, milliseconds, show_life
from relume.cli.machine.jobs_client import JobsClient
from relume.cli.machine.reports import ColdStartReport, EventRecord
from relume.cli.machine.story import record_line, related, show_cold_start
from relume.cli.screen import Screen

JOB_PREFIX = "job_"


async def explain_job(url: str, job_id: str, output: str) -> int:
    """Show the life of one job. Raises BadUsage when there is no such job."""
    async with JobsClient(url) as client:
        job = await client.job(job_id)
        cold_starts, records = await _of_the_plane(client, job)
    screen = Screen.stdout()
    if output == "json":
        screen.json(
            {
                "id": job.id,
                "job": job.raw,
                "phases": [
                    {"phase": name, "ms": ms, "detail": words} for name, ms, words in life(job)
                ],
                "cold_starts": [each.raw for each in cold_starts],
                "records": [record.raw for record in records],
                "total_ms": milliseconds(job.created_at, job.settled_at),
            }
        )
        return 0
    show_life(screen, job)
    if records:
        screen.line()
        for record in records:
            screen.draw_line(record_line(record))
    for each in cold_starts:
        screen.line()
        show_cold_start(screen, each)
    return 0


async def _of_the_plane(
    client: JobsClient, job: JobReport
) -> tuple[list[ColdStartReport], list[EventRecord]]:
    """What a plane of this machine knows beside the job; a gateway knows nothing of it."""
    try:
        ledger = await client.cold_starts()
        async with client.events(replay=RING, follow=False) as records:
            told = related([each async for each in records], job.id)
    except NotAPlane:
        return [], []
    return cold_starts_of(job, ledger), told


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
            ready = None if each.ready is None else at + timedelta(milliseconds=each.ready)
            if (ready is None or ready >= began) and (ended is None or at <= ended):
                found.append(each)
    except ValueError:
        return []  # a plane of another version writes its times in another way
    return found
