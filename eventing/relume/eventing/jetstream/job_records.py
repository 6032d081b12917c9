"""Work messages and records of jobs: stored, read together, replaced by compare-and-set.

A write whose answer was lost is tried again, and finds its own first try in its way. So each write
has a mark of its own, and the stream's leader is asked whose the message there is.
"""

import asyncio
from collections.abc import AsyncIterator

from relume.cloudevents.event import InvalidEvent
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi, Message, Refused, message_in
from relume.eventing.jetstream.job_live import live
from relume.eventing.jetstream.job_streams import (
    JOBS,
    WORK,
    WRITE,
    record_subject,
    ttl,
    work_of,
    work_subject,
)
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.packing import pack_record, unpack_record
from relume.eventing.jobs.settings import JobSettings, lifetime_s
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobTooLarge, KeyInUse, Lane, NoSuchJob, Outrun, Seen

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class JobRecords:
    """The part of a JobStore that knows how far each job is."""

    def __init__(self, api: JobApi, settings: JobSettings) -> None:
        self._api = api
        self._settings = settings

    async def submit(self, job: Job, patience_s: float) -> tuple[bool, Seen]:
        """See `JobStore.submit`; the lane of the job must be there."""
        mark = self._api.mark()
        place = await self._put_work(job, 0, mark, patience_s)
        if place:
            return True, Seen(job, place, None, 0)
        # A message of this id was there. Nodes that are behind might not have it yet.
        work = await self._api.last_at_leader(WORK, work_of(job.id))
        if work is not None and work.headers.get(WRITE) == mark:
            return True, Seen(job, work.sequence, None, 0)
        record = await self._api.last_at_leader(JOBS, record_subject(job.id))
        seen = seen_of(work, record)
        if (known := seen.job or seen.record) is None:
            raise StoreUnavailable(f"job {job.id} was removed a moment ago: try again later")
        if known.digest != job.digest:
            raise KeyInUse(f"job {job.id} has this key already, with another request")
        return False, seen

    async def look(self, job_id: str) -> Seen:
        """See `JobStore.look`."""
        seen = await self._look(job_id)
        if seen.job is None and seen.record is None and self._settings.replicas > 1:
            # The node that was asked may be behind.
            work = await self._api.last_at_leader(WORK, work_of(job_id))
            seen = seen_of(work, await self._api.last_at_leader(JOBS, record_subject(job_id)))
        if seen.job is None and seen.record is None:
            raise NoSuchJob(f"there is no job {job_id}")
        return seen

    async def write(self, record: Record, revision: int) -> int:
        """See `JobStore.write`."""
        payload = pack_record(record)
        if len(payload) > self._settings.max_record_bytes:
            raise JobTooLarge(f"the record of job {record.id} has {len(payload):,} bytes")
        subject, mark = record_subject(record.id), self._api.mark()
        headers = {WRITE: mark, _EXPECTED: str(revision), "Nats-Expected-Stream": JOBS}
        if record.settled:
            headers |= ttl(record.stored_s)
        stored = await self._api.put(subject, payload, headers)
        if stored.sequence:
            return stored.sequence
        found = await self._api.last_at_leader(JOBS, subject)
        if found is not None and found.headers.get(WRITE) == mark:
            return found.sequence
        raise Outrun(f"job {record.id} was written since")

    async def requeue(self, job: Job, place: int) -> None:
        """See `JobStore.requeue`."""
        mark = self._api.mark()
        if await self._put_work(job, place, mark, self._api.patience_s):
            return
        work = await self._api.last_at_leader(WORK, work_of(job.id))
        if work is None or work.headers.get(WRITE) != mark:
            raise Outrun(f"job {job.id} was queued again since")

    async def withdraw(self, job_id: str) -> None:
        """See `JobStore.withdraw`."""
        while (work := await self._work(job_id)) is not None:
            try:
                # Overwriting its bytes would take twenty times as long.
                which = {"seq": work.sequence, "no_erase": True}
                await self._api.ask(f"STREAM.MSG.DELETE.{WORK}", which)
            except Refused as refusal:
                # nats-server has one error code for whatever went wrong: look whether it is gone.
                again = await self._api.last_at_leader(WORK, work_of(job_id))
                if again is not None and again.sequence == work.sequence:
                    raise StoreUnavailable(str(refusal)) from None

    async def watch(self, job_id: str) -> AsyncIterator[Record]:
        """See `JobStore.watch`."""
        subject, told = record_subject(job_id), 0
        bound = self._settings.unread_bytes
        async with live(self._api, subject, bound, message_in) as messages:
            whole = False
            while True:
                taken: list[Message] = []
                last: Message | None = None
                if whole:
                    await messages.wait()
                    taken, whole = await messages.take()
                if taken:
                    last = taken[-1]
                if not whole:
                    last = await self._api.last_at_leader(JOBS, subject)
                    whole = True
                if last is not None and last.sequence > told:
                    told = last.sequence
                    yield unpack_record(last.payload)

    async def _look(self, job_id: str) -> Seen:
        record = record_subject(job_id)
        return seen_of(
            *await asyncio.gather(
                self._work_anywhere(job_id), self._api.read(JOBS, {"last_by_subj": record})
            )
        )

    async def _work(self, job_id: str) -> Message | None:
        """The work message, also where the node that is asked first does not have it yet."""
        work = await self._work_anywhere(job_id)
        if work is None and self._settings.replicas > 1:
            return await self._api.last_at_leader(WORK, work_of(job_id))
        return work

    async def _work_anywhere(self, job_id: str) -> Message | None:
        # Among a million work messages, `multi_last` finds one by its id in a quarter of the time
        # that `last_by_subj` takes.
        found = await self._api.page(WORK, {"multi_last": [work_of(job_id)]})
        return found[0] if found else None

    async def _put_work(self, job: Job, place: int, mark: str, patience_s: float) -> int:
        """The new place of a work message that replaces the one at `place`; 0: another is there."""
        payload = job.to_envelope().pack()
        if len(payload) > self._settings.max_record_bytes:
            raise JobTooLarge(f"job {job.id} has {len(payload):,} bytes")
        headers = {
            # The id finds a job of the same key for another service, the expectation one for this.
            "Nats-Msg-Id": f"{job.id}.{job.round}",
            "Nats-Expected-Stream": WORK,
            _EXPECTED: str(place),
            WRITE: mark,
            **ttl(lifetime_s(job.limits)),
        }
        lane = Lane(job.service, job.priority, job.tenant)
        stored = await self._api.put(work_subject(lane, job.id), payload, headers, patience_s)
        return stored.sequence if stored.new else 0


def seen_of(work: Message | None, record: Message | None) -> Seen:
    """What both messages say of a job."""
    return Seen(
        None if work is None else job_in(work),
        0 if work is None else work.sequence,
        None if record is None else unpack_record(record.payload),
        0 if record is None else record.sequence,
    )


def job_in(work: Message) -> Job:
    """The job of a work message. Raises StoreUnavailable where it is damaged."""
    try:
        return Job.from_envelope(Envelope.unpack(work.payload))
    except InvalidEvent as error:
        raise StoreUnavailable(str(error), reason="damaged-job") from None
