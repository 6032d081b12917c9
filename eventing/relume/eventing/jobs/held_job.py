"""The record of a job that this worker holds: every step is written durably before it counts.

A write may be applied although its acknowledgement is lost. So a write that failed is looked up,
and a record that says what was to be written is taken for written: nobody else writes under the
same worker and generation.
"""

from dataclasses import dataclass

from relume.base.clock import Clock
from relume.eventing.event_log import DiskFull, LeaseLost, StoreUnavailable
from relume.eventing.jobs.chunk_log import STORE_PAUSE_S
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.state import AlreadySettled, Happening, Record, step
from relume.eventing.jobs.store import JobStore, NoSuchJob, Outrun, Seen


@dataclass(slots=True)
class HeldJob:
    """One job under one lease."""

    job: Job
    record: Record | None
    _revision: int
    _store: JobStore
    _clock: Clock

    @classmethod
    async def open(cls, store: JobStore, job: Job, clock: Clock) -> "HeldJob":
        """Read what is stored of the job. Raises NoSuchJob, StoreUnavailable."""
        seen = await store.look(job.id)
        return cls(job, seen.record, seen.revision, store, clock)

    @property
    def is_over(self) -> bool:
        """Whether this round of the job is settled, or a later one has begun."""
        return is_over(self.record, self.job)

    @property
    def was_tried(self) -> bool:
        """Whether a predictor was asked in this round."""
        record = self.record
        return record is not None and record.round == self.job.round and record.attempt > 0

    def is_held_in(self, generation: int) -> bool:
        """Whether the lease of this generation is the one that the record knows."""
        record = self.record
        return record is not None and not self.is_over and record.generation == generation

    async def confirm(self, generation: int) -> None:
        """Make sure that the lease of this generation still holds the job.

        Raises AlreadySettled, LeaseLost.
        """
        await self.refresh()
        if self.is_over:
            raise AlreadySettled(f"job {self.job.id} is settled already")
        if not self.is_held_in(generation):
            raise LeaseLost(f"job {self.job.id} is not in lease {generation} any more")

    async def take(self, happening: Happening) -> Record:
        """Write the record as it is after `happening`; waits for a store that restarts.

        Raises LeaseLost when another worker holds the job or it is settled, JobConflict.
        """
        while True:
            wanted = step(self.record, self.job, happening)
            try:
                self._revision = await self._store.write(wanted, self._revision)
            except (Outrun, StoreUnavailable, DiskFull) as error:
                if not isinstance(error, Outrun):
                    await self._clock.sleep(STORE_PAUSE_S)
                await self.refresh()
                if self.record is None or not _says_the_same(self.record, wanted):
                    continue
            self.record = wanted
            return wanted

    async def refresh(self) -> None:
        """Read the record again; waits for a store that restarts. Raises AlreadySettled."""
        seen = await _look(self._store, self.job.id, self._clock)
        self.record, self._revision = seen.record, seen.revision


def is_over(record: Record | None, job: Job) -> bool:
    """Whether this round of the job is settled, or a later one has begun."""
    if record is None or record.round < job.round:
        return False
    return record.settled or record.round > job.round


async def _look(store: JobStore, job_id: str, clock: Clock) -> Seen:
    while True:
        try:
            return await store.look(job_id)
        except StoreUnavailable:
            await clock.sleep(STORE_PAUSE_S)
        except NoSuchJob as error:
            raise AlreadySettled(str(error)) from error


def _says_the_same(stored: Record, wanted: Record) -> bool:
    """Whether the stored record is the one that was to be written, by what tells records apart."""
    return _place(stored) == _place(wanted)


def _place(record: Record) -> tuple[object, ...]:
    held = (record.round, record.generation, record.worker, record.attempt)
    return (*held, record.state, record.reason, record.position)
