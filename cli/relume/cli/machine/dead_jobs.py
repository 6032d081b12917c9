"""Dead jobs among the dead letters: jobs that ran out of attempts."""

from collections.abc import Callable
from typing import Any

import click

from relume.cli.errors import NotAPlane
from relume.cli.machine.job_reports import JobReport
from relume.cli.machine.jobs_client import JobsClient, Wanted


def letters(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[int | str, ...]:
    """The numbers of dead letters, and the ids of dead jobs as they are."""
    return tuple(_letter(value, ctx, param) for value in values)


def _letter(value: Any, ctx: click.Context, param: click.Parameter) -> int | str:
    if str(value).startswith("job_"):
        return str(value)
    return click.IntRange(1).convert(value, param, ctx)


async def dead_jobs(url: str, takes: Callable[[JobReport], bool], limit: int) -> list[JobReport]:
    """Up to `limit` dead jobs that pass, newest first; none where the plane has no jobs."""
    found: list[JobReport] = []
    async with JobsClient(url) as client:
        try:
            async for job in client.jobs(Wanted(("dead",))):
                if len(found) >= limit:
                    break
                if takes(job):
                    found.append(job)
        except NotAPlane:
            return []
    return found


def as_letter(job: JobReport) -> dict[str, object]:
    """A dead job with the fields of a dead letter; `job` is its id, and it has no number."""
    return {
        "sequence": None,
        "job": job.id,
        "at": job.settled_at or job.created_at,
        "broker": None,
        "trigger": None,
        "type": "relume.job",
        "id": job.id,
        "code": None,
        "reason": job.reason or "",
        "said": job.detail or "",
        "destination": f"{job.service}{job.route}",
        "bytes": 0,
    }
