"""`relume explain` of a job: its phases over all attempts, and its cold start."""

from relume.cli.errors import NotAPlane
from relume.cli.machine.client import RING
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.job_story import life, milliseconds, show_life
from relume.cli.machine.jobs_client import JobsClient
from relume.cli.machine.reports import ColdStartReport, EventRecord
from relume.cli.machine.story import find_cold_start, record_line, related, show_cold_start
from relume.cli.screen import Screen

JOB_PREFIX = "job_"


async def explain_job(url: str, job_id: str, output: str) -> int:
    """Show the life of one job. Raises BadUsage when there is no such job."""
    async with JobsClient(url) as client:
        job = await client.job(job_id)
        cold_start, records = await _of_the_plane(client, job)
    screen = Screen.stdout()
    if output == "json":
        screen.json(
            {
                "id": job.id,
                "job": job.raw,
                "phases": [
                    {"phase": name, "ms": ms, "detail": words} for name, ms, words in life(job)
                ],
                "cold_start": cold_start.raw if cold_start else None,
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
    if cold_start is not None:
        screen.line()
        show_cold_start(screen, cold_start)
    return 0


async def _of_the_plane(
    client: JobsClient, job: JobReport
) -> tuple[ColdStartReport | None, list[EventRecord]]:
    """What a plane of this machine knows beside the job; a gateway knows nothing of it."""
    try:
        ledger = await client.cold_starts()
        async with client.events(replay=RING, follow=False) as records:
            told = related([each async for each in records], job.id)
    except NotAPlane:
        return None, []
    return find_cold_start(ledger, job.id, None), told
