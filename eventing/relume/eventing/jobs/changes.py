"""What people may do to a job: cancel, retry, delete, and purge a queue.

`step` of the state machine decides, and the store takes the record only on the revision that was
read. When somebody else was faster, it is read again and decided again.

The publisher reads the events of a settled job from its record, so a retry or a delete that would
take an event away waits until the publisher has it.
"""

from collections.abc import Awaitable, Callable, Sequence

from relume.base.clock import Clock
from relume.eventing.jobs.answers import Gone, NotPublished
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.shapes import is_job_id, no_longer_shown
from relume.eventing.jobs.state import (
    Cancelled,
    Deleted,
    Happening,
    JobConflict,
    Record,
    Usage,
    may_be_retried,
    next_round,
    round_of,
    step,
)
from relume.eventing.jobs.store import Chunk, Filter, JobStore, NoSuchJob, Outrun, Seen
from relume.eventing.jobs.transcript import stored_tokens

# Each loss of the race is a step that somebody else took, and a job has few of them.
_TRIES = 30
# How long somebody waits for the publisher, which takes milliseconds unless a sink is away.
PUBLISHED_WITHIN_S = 2.0
_ASK_AGAIN_S = 0.05


class Changes:
    """Changes jobs for the one who owns them: those of others do not exist for anybody else.

    `publishes` says whether anything is published of a settled record.
    """

    def __init__(
        self, store: JobStore, clock: Clock, publishes: Callable[[Record], bool] = lambda _: True
    ) -> None:
        self._store = store
        self._clock = clock
        self._publishes = publishes

    async def seen(self, job_id: str, owner: str) -> Seen:
        """What is stored of the job. Raises NoSuchJob, also for a job of somebody else."""
        if is_job_id(job_id):
            seen = await self._store.look(job_id)
            stored = seen.job or seen.record
            mine = stored is not None and stored.owner in ("", owner)
            if mine and not no_longer_shown(seen, self._clock.now()):
                return seen
        raise NoSuchJob("there is no job of this id, or its time is over, or it is another's")

    async def cancel(self, job_id: str, owner: str, detail: str = "") -> Seen:
        """End a job that has not settled. Raises JobConflict."""

        async def cancelled(seen: Seen) -> Happening:
            record, now = seen.record, self._clock.now()
            if record is None or record.settled:
                return Cancelled(now, detail)
            chunks, _ = await self._store.chunks(job_id, record.position)
            position = chunks[-1].position if chunks else 0
            return Cancelled(now, detail, position, _usage_so_far(record, chunks))

        return await self._step(job_id, owner, cancelled)

    async def retry(self, job_id: str, owner: str) -> Seen:
        """Queue a job that has ended without an answer again.

        Raises JobConflict, Gone, and NotPublished while the end of this round is not published.

        Its round goes up, so that its record of the last round says nothing any more. A deleted job
        stays deleted: who deletes it while it is queued again has the last word, and is found here.
        """
        for _ in range(_TRIES):
            seen = await self.seen(job_id, owner)
            again = self._again(seen, job_id)
            if seen.record is not None and self._publishes(seen.record):
                await self._published(seen.record, seen.revision)
            try:
                await self._store.requeue(again, seen.place)
            except Outrun:
                continue
            seen = await self.seen(job_id, owner)
            if seen.record is not None and seen.record.deleted:
                await self._store.withdraw(job_id)
                raise Gone(f"job {job_id} was deleted", reason="deleted")
            return seen
        raise Outrun(f"job {job_id} changes too often: retry it again")

    async def delete(self, job_id: str, owner: str) -> None:
        """Keep nothing of a settled job but its key.

        Raises JobConflict, and NotPublished while its reply event is not published. A usage event
        that is not published yet needs no wait: the tombstone says the same.

        The tombstone comes first: it ends the job for everybody. So whoever was stopped after it
        finishes by deleting again.
        """

        async def deleted(seen: Seen) -> Happening:
            record = seen.record
            if record is not None and record.settled and record.reply_to is not None:
                await self._published(record, seen.revision)
            return Deleted(self._clock.now())

        await self._step(job_id, owner, deleted)
        await self._store.withdraw(job_id)
        await self._store.forget(job_id)

    async def purge(self, service: ServiceName) -> int:
        """Cancel every job that waits for a service; how many they were."""
        count = 0
        async for seen in self._store.listed(Filter(service=service, states=("queued",))):
            purged = Cancelled(self._clock.now(), "the queue was purged")
            try:
                await self._store.write(step(seen.record, seen.job, purged), seen.revision)
            except (Outrun, JobConflict):
                continue  # it does not wait any more
            count += 1
        return count

    async def _step(
        self, job_id: str, owner: str, happening: Callable[[Seen], Awaitable[Happening]]
    ) -> Seen:
        """Take a step, and look at what is stored then."""
        for _ in range(_TRIES):
            seen = await self.seen(job_id, owner)
            record = step(seen.record, seen.job, await happening(seen))
            try:
                await self._store.write(record, seen.revision)
            except Outrun:
                continue
            return await self.seen(job_id, owner)
        raise Outrun(f"job {job_id} changes too often: ask again")

    async def _published(self, record: Record, revision: int) -> None:
        """Return when this settled record is published. Raises NotPublished."""
        until = self._clock.monotonic() + PUBLISHED_WITHIN_S
        while not await self._store.published(record.id, revision):
            if self._clock.monotonic() >= until:
                raise NotPublished(
                    f"job {record.id} is {record.state}, and its events are not published yet: "
                    "this would lose them, so try again later"
                )
            await self._clock.sleep(_ASK_AGAIN_S)

    def _again(self, seen: Seen, job_id: str) -> Job:
        """The next round of a job. Raises JobConflict and Gone."""
        if seen.job is not None:
            return next_round(seen.record, seen.job, self._clock.now())
        if seen.record is not None and may_be_retried(seen.record):
            raise Gone(f"the request of job {job_id} is not kept any more: send it again")
        state = "deleted" if seen.record is not None and seen.record.deleted else seen.state
        raise JobConflict(f"job {job_id} is {state}: only one without an answer is retried")


def _usage_so_far(record: Record, chunks: Sequence[Chunk]) -> Usage:
    """What is known of a job that runs: its tokens as they are stored, and its time in the queue.

    Parts that a worker of an earlier round has stored late are none of this round.
    """
    tokens = stored_tokens([each for each in chunks if round_of(each.generation) == record.round])
    waited = (record.leased_at or record.accepted_at) - record.accepted_at
    return Usage(
        prompt_tokens=tokens.prompt,
        completion_tokens=tokens.completion,
        cached_tokens=tokens.cached,
        queue_ms=max(0, round(waited.total_seconds() * 1000)),
    )
