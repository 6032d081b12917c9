"""Whether a new job is admitted now: the bounds of its tenant, and what they are counted with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from relume.eventing.jobs.answers import Refusal
from relume.eventing.jobs.estimates import Estimates
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.queues import Queue
from relume.eventing.jobs.quotas import Full, Quotas, tokens_of
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import Lane


@dataclass(frozen=True, slots=True)
class TenantFull:
    """What is full, for the answer (a `Refusal`)."""

    full: Full

    @property
    def reason(self) -> str:
        return f"too-many-{self.full.what}"

    @property
    def retry_after_s(self) -> float:
        return self.full.retry_after_s

    def __str__(self) -> str:
        return str(self.full)


class Admission:
    """Asked by the doors for each new job (`relume.eventing.jobs.door.Admit`)."""

    def __init__(
        self,
        queue_of: Callable[[ServiceName], Queue | None],
        estimates: Estimates,
        settings: JobSettings,
    ) -> None:
        self._queue_of = queue_of
        self._quotas = Quotas(
            self._counts,
            estimates,
            tenant_jobs=settings.tenant_jobs,
            tenant_tokens=settings.tenant_tokens,
        )

    async def __call__(self, job: Job, value: object) -> Refusal | None:
        """None: it is admitted, and counted with those that wait.

        `value` is the body of the job as JSON; None: nobody has read it so yet.
        """
        lane = Lane(job.service, job.priority, job.tenant)
        if value is None:
            value = _parsed(job.body)
        asked = value if isinstance(value, dict) else None
        tokens = tokens_of(max(len(job.body), job.size), asked)
        if (full := self._quotas.check(lane, tokens)) is not None:
            return TenantFull(full)
        self._quotas.accepted(lane, tokens)
        if (queue := self._queue_of(job.service)) is not None:
            # Before it is stored: the lane is asked for it, and gets it as soon as it is there.
            queue.cursor.expect(lane)
        return None

    def _counts(self, service: ServiceName) -> Mapping[Lane, int]:
        queue = self._queue_of(service)
        return {} if queue is None else queue.cursor.counts


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
