"""What the program that serves jobs knows of its services: how far a start is, and when it ends."""

from collections.abc import Callable
from dataclasses import dataclass

from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.store import JobStore, Lane, Seen


def _nobody_knows(service: ServiceName, ahead: int) -> float | None:
    return None


def _no_phase(service: ServiceName) -> str | None:
    return None


def _no_time(service: ServiceName) -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class Outlook:
    """`starts_in` predicts in how many seconds a job starts that has `ahead` jobs in front of it.

    `phase` is the phase of the cold start that a service is in, and `ready_in_s` predicts in how
    many seconds that cold start is over. Each is None where nothing is known.
    """

    starts_in: Callable[[ServiceName, int], float | None] = _nobody_knows
    phase: Callable[[ServiceName], str | None] = _no_phase
    ready_in_s: Callable[[ServiceName], float | None] = _no_time


async def place_in_queue(
    store: JobStore, outlook: Outlook, seen: Seen
) -> tuple[int | None, float | None]:
    """The position of a queued job, from 1, and in how many seconds it starts. (None, None) else.

    Only the jobs of its own lane are in front of it. Raises StoreUnavailable.
    """
    job = seen.job
    if job is None or seen.state != "queued":
        return None, None
    ahead = await store.ahead(Lane(job.service, job.priority, job.tenant), seen.place)
    starts_in_s = outlook.starts_in(job.service, ahead)
    return ahead + 1, None if starts_in_s is None else round(starts_in_s, 1)
