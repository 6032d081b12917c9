"""What people may do to a job: cancel, retry, delete, and purge a queue.

`step` of the state machine decides, and the store takes the record only on the revision that was
read. When somebody else was faster, it is read again and decided again.
"""

from dataclasses import replace

from relume.base.clock import Clock
from relume.eventing.jobs.answers import Gone
from relume.eventing.jobs.job import Job, Limits, ServiceName
from relume.eventing.jobs.shapes import current_record, is_job_id
from relume.eventing.jobs.state import (
    Cancelled,
    Deleted,
    Happening,
    JobConflict,
    Record,
    may_be_retried,
    step,
)
from relume.eventing.jobs.store import Filter, JobStore, NoSuchJob, Outrun, Seen

# Each loss of the race is a step that somebody else took, and a job has few of them.
_TRIES = 30


class Changes:
    """Changes jobs for the one who owns them: those of others do not exist for anybody else."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def seen(self, job_id: str, owner: str) -> Seen:
        """What is stored of the job. Raises NoSuchJob, also for a job of somebody else."""
        if is_job_id(job_id):
            seen = await self._store.look(job_id)
            stored = seen.job or seen.record
            if stored is not None and stored.owner in ("", owner):
                return seen
        raise NoSuchJob("there is no job of this id, or its time is over, or it is another's")

    async def cancel(self, job_id: str, owner: str, detail: str = "") -> Seen:
        """End a job that has not settled. Raises JobConflict."""
        return await self._step(job_id, owner, Cancelled(self._clock.now(), detail))

    async def retry(self, job_id: str, owner: str) -> Seen:
        """Queue a job that has ended without an answer again. Raises JobConflict and Gone.

        Its round goes up, so that its record of the last round says nothing any more.
        """
        for _ in range(_TRIES):
            seen = await self.seen(job_id, owner)
            again = self._next_round(seen, job_id)
            try:
                await self._store.requeue(again, seen.place)
            except Outrun:
                continue
            return await self._retried(job_id, owner)
        raise Outrun(f"job {job_id} changes too often: retry it again")

    async def _retried(self, job_id: str, owner: str) -> Seen:
        """Look whether somebody has deleted the job meanwhile: then it is not done again.

        `delete` looks whether somebody has retried meanwhile, so at least one of the two notices.
        """
        seen = await self.seen(job_id, owner)
        if seen.record is not None and seen.record.deleted:
            await self._store.withdraw(job_id)
            raise Gone(f"job {job_id} was deleted", reason="deleted")
        return seen

    async def delete(self, job_id: str, owner: str) -> None:
        """Keep nothing of a settled job but its key. Raises JobConflict.

        It may be repeated: whoever was stopped in the middle finishes it by deleting again.
        """
        seen = await self._step(job_id, owner, Deleted(self._clock.now()))
        if current_record(seen) is None:
            raise JobConflict(f"job {job_id} was retried: cancel it before it is deleted")
        await self._store.withdraw(job_id)
        await self._store.forget(job_id)

    async def purge(self, service: ServiceName) -> int:
        """Cancel every job that waits for a service; how many they were."""
        count = 0
        async for seen in self._store.listed(Filter(service=service, states=("queued",))):
            job = job_of(seen)
            purged = step(seen.record, job, Cancelled(self._clock.now(), "the queue was purged"))
            try:
                await self._store.write(purged, seen.revision)
            except Outrun:
                continue  # it does not wait any more
            count += 1
        return count

    async def _step(self, job_id: str, owner: str, happening: Happening) -> Seen:
        """Take a step, and look at what is stored then."""
        for _ in range(_TRIES):
            seen = await self.seen(job_id, owner)
            record = step(seen.record, job_of(seen), happening)
            try:
                await self._store.write(record, seen.revision)
            except Outrun:
                continue
            return await self.seen(job_id, owner)
        raise Outrun(f"job {job_id} changes too often: ask again")

    def _next_round(self, seen: Seen, job_id: str) -> Job:
        record = current_record(seen)
        if record is None or not may_be_retried(record):
            state = "deleted" if record is not None and record.deleted else seen.state
            raise JobConflict(f"job {job_id} is {state}: only one without an answer is retried")
        if seen.job is None:
            raise Gone(f"the request of job {job_id} is not kept any more: send it again")
        return replace(seen.job, round=record.round + 1, accepted_at=self._clock.now())


def job_of(seen: Seen) -> Job:
    """The job, or as much of it as its record tells where its request is gone."""
    if seen.job is not None:
        return seen.job
    if (record := seen.record) is None:
        raise NoSuchJob("nothing is stored of this job")
    return _job_of_record(record)


def _job_of_record(record: Record) -> Job:
    return Job(
        id=record.id,
        service=record.service,
        route=record.route,
        tenant=record.tenant,
        owner=record.owner,
        priority=record.priority,
        limits=Limits(keep_s=record.keep_s),
        accepted_at=record.accepted_at,
        digest=record.digest,
        event=record.event,
        reply_to=record.reply_to,
        round=record.round,
    )
