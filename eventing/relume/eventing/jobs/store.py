"""What jobs need of a durable store. JetStream is one, `relume.eventing.testing` has another.

A work message says that a job is to be done, and holds its request. It stays until the job is
deleted or its time is over, because a retry needs the request again. A record says how far a job
is. Chunks are the parts of an answer as they came. Nothing of all this is kept in the process.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from relume.base.errors import InvalidInput, RelumeError
from relume.eventing.event_log import Cursor, LeasedEvent
from relume.eventing.jobs.job import Job, Priority, ServiceName
from relume.eventing.jobs.readers import Readers
from relume.eventing.jobs.state import Record, State


class KeyInUse(InvalidInput):
    """Another request has this idempotency key: give this one a key of its own."""

    reason = "key-in-use"


class NoSuchJob(InvalidInput):
    """There is no job of this id, or its time is over, or it belongs to somebody else."""

    reason = "no-such-job"


class JobTooLarge(RelumeError):
    """The job or its record does not fit one message of the store: its body must be a payload."""

    reason = "job-too-large"


class NoSuchPayload(RelumeError):
    """The object store does not have it (any more)."""

    reason = "no-such-payload"


class Outrun(RelumeError):
    """Somebody else wrote the record first: read it again, and decide again."""

    reason = "outrun"
    retryable = True


class ReadEnough(Exception):
    """A list has read as many jobs as it may. It goes on with those below `place`."""

    def __init__(self, place: int) -> None:
        super().__init__(f"the list has read down to place {place}")
        self.place = place


@dataclass(frozen=True, slots=True)
class Seen:
    """What is stored of a job. `place` is where its work message lies (0: it is gone).

    `revision` names the record for `write` (0: there is none).
    """

    job: Job | None
    place: int
    record: Record | None
    revision: int

    @property
    def current(self) -> Record | None:
        """The record of the job's present round; that of an earlier round says nothing any more.

        A tombstone ends all rounds.
        """
        record, job = self.record, self.job
        if record is None or job is None or record.deleted or record.round >= job.round:
            return record
        return None

    @property
    def state(self) -> State:
        """The state for everybody who asks."""
        return "queued" if (record := self.current) is None else record.state


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer. `position` counts from 1 and names it to clients for all time.

    `kind` is `data` (what the predictor sent after `data: `) or `restarted` (the answer begins
    again after this; `data` is the number of the attempt). `generation` is the `state.fence` of the
    lease under which it was stored: its round and the generation of the lease.
    """

    position: int
    kind: Literal["data", "restarted"]
    data: bytes
    generation: int


class Lane(NamedTuple):
    """The queue of one tenant at one service, at one priority.

    Each job that comes in looks up its lane many times, and a tuple is hashed quickly.
    """

    service: ServiceName
    priority: Priority
    tenant: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that no worker has leased in this round: its place in its lane, and since when."""

    place: int
    job: Job
    since: datetime


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list; None and () take all."""

    owner: str | None = None
    service: ServiceName | None = None
    states: Sequence[State] = ()

    def takes(self, seen: Seen) -> bool:
        """Whether to list this job."""
        if (of := seen.record or seen.job) is None:
            return False
        return (
            (self.owner is None or of.owner == self.owner)
            and (self.service is None or of.service == self.service)
            and (not self.states or seen.state in self.states)
        )


class ParkedEvent(LeasedEvent, Protocol):
    """A parked event on lease."""

    async def put_off(self, seconds: float) -> None:
        """Redeliver it in so many seconds, or when the cursor is stopped here."""
        ...


class ParkedCursor(Cursor, Protocol):
    """A cursor of parked events."""

    async def fetch(self, limit: int) -> Sequence[ParkedEvent]: ...

    async def recall(self, sequences: Collection[int]) -> None:
        """Redeliver at once what was put off here; numbers of other events are passed over."""
        ...


class JobStore(Protocol):
    """The durable store of all jobs. Every method raises StoreUnavailable."""

    @property
    def readers(self) -> Readers:
        """Who follows the answers that are written in this process, here or at another gateway."""
        ...

    async def submit(self, job: Job, patience_s: float) -> tuple[bool, Seen]:
        """Store a new job durably: True and what is stored.

        False, and what is stored, when its work message is there already. Raises KeyInUse when
        that has another digest, DiskFull and JobTooLarge. Only `look` tells of a job whose work
        message is gone (a deleted one): whoever has a key looks first.
        """
        ...

    async def look(self, job_id: str) -> Seen:
        """Raises NoSuchJob."""
        ...

    async def write(self, record: Record, revision: int) -> int:
        """Replace the record of this revision (0: create it); the new revision. Raises Outrun.

        The record of a settled job goes away by itself `stored_s` seconds after it was written:
        not before its work message, without which it would seem to wait.
        Raises JobTooLarge, DiskFull.
        """
        ...

    async def requeue(self, job: Job, place: int) -> None:
        """Replace the work message at `place` by this next round of the job. Raises Outrun."""
        ...

    async def withdraw(self, job_id: str) -> None:
        """Remove the work message, if there is one: the job cannot be retried or listed any more.

        It belongs to deleting a job. The work message of a cancelled job stays; the worker that
        gets it finds the job settled.
        """
        ...

    async def append(
        self, job_id: str, chunks: Sequence[Chunk], after: int, *, lasts_s: float | None = None
    ) -> int:
        """Store chunks durably; returns the place to give as `after` next time.

        `after` is the place of this job's last chunk (0: none). They are kept for `lasts_s` (None:
        as the settings say). Raises LeaseLost when somebody else has appended since, and DiskFull.
        """
        ...

    async def chunks(self, job_id: str, after: int = 0) -> tuple[Sequence[Chunk], int]:
        """The stored chunks with positions above `after`, and the place of the last chunk."""
        ...

    def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        """The same, going on as more are stored, without an end; survives a restart of the store.

        Close it (`aclose`) when the job is settled and its last position was seen.
        """
        ...

    def watch(self, job_id: str) -> AsyncIterator[Record]:
        """The record now (if there is one) and each time it changes, without an end.

        A reader that is slower than the changes gets the last one only.
        """
        ...

    async def forget(self, job_id: str) -> None:
        """Remove the chunks and payloads of a job."""
        ...

    async def put_payload(
        self,
        job_id: str,
        name: str,
        data: AsyncIterator[bytes],
        *,
        lasts_s: float | None = None,
    ) -> str:
        """Store a large body; returns its reference. Raises DiskFull.

        It is kept for `lasts_s` (None: as the settings say). `name` holds letters, digits and
        dashes. A body of this name that the job has already stays, under its own reference.
        """
        ...

    def payload(self, reference: str) -> AsyncIterator[bytes]:
        """Raises NoSuchPayload."""
        ...

    def listed(
        self, wanted: Filter, after: str | int | None = None, *, most: int | None = None
    ) -> AsyncIterator[Seen]:
        """The jobs that pass, newest first.

        `after` is the id of the last one of the page before, or the place in its ReadEnough.
        A job that is retried becomes the newest. Deleted jobs are not listed. Reading on costs no
        more memory than one page.

        Raises NoSuchJob when the job `after` is gone, and ReadEnough when about `most` jobs were
        read, whether they passed or not, and there may be more (None: read them all).
        """
        ...

    async def lanes(self, service: ServiceName) -> Mapping[Lane, int]:
        """The lanes of a service, and how many jobs in each were never given to a worker.

        Where the service is paused, the first 1,000 of those that `returned` finds count too.
        """
        ...

    async def running(self, service: ServiceName) -> int:
        """How many jobs of a service workers hold, in all processes.

        It counts those too that wait at a worker for a slot or for their next attempt, and those of
        a worker that died, until another one has them. Where the service is paused, those that
        `lanes` counts are left out.
        """
        ...

    def each_lane(self, service: ServiceName) -> AsyncIterator[Lane]:
        """The lanes of a service, and then each new one as soon as it is made, without an end.

        A lane without a job for long may be removed. It comes again when it is made again.
        """
        ...

    async def open_lane(self, lane: Lane) -> Cursor:
        """The place of all workers together in a lane. The number of deliveries of a leased event
        is its `generation`."""
        ...

    async def ahead(self, lane: Lane, place: int) -> int:
        """How many jobs of this lane wait in front of the one at `place`.

        The number may be a second old. The first 64 are counted, beyond them it is an estimate.
        """
        ...

    async def pause(self, service: ServiceName, paused: bool) -> None:
        """Let no worker lease a job of this service, or let them again; also after a restart."""
        ...

    async def paused(self) -> frozenset[ServiceName]: ...

    def settled(self) -> Cursor:
        """The place of all publishers together in what was settled.

        The payload of a leased event is a packed record that has settled (`pack_record`).
        """
        ...

    async def park(self, job_id: str, name: str, event: bytes) -> None:
        """Keep an event of a job (a packed Envelope) that its sink has not taken.

        It replaces an event of the same name. `name` holds letters and digits. Raises DiskFull,
        JobTooLarge.
        """
        ...

    async def bury(self, job_id: str, name: str, event: bytes) -> None:
        """Keep an event of a job (a packed Envelope) that no sink will take, until it is removed.

        It replaces an event of the same name. Raises DiskFull, JobTooLarge.
        """
        ...

    def parked(self) -> "ParkedCursor":
        """The place of all publishers together in the events that are parked.

        An event that is settled is removed.
        """
        ...

    async def published(self, job_id: str, revision: int) -> bool:
        """Whether publishers are done with everything that was settled up to this revision, and no
        event of this job is parked.

        Ask before a settled record is replaced (by deleting its job or by another round of it):
        who has not got the record by then gets only what replaces it.
        """
        ...

    async def oldest(self, lane: Lane, after: int = 0) -> Waiting | None:
        """The first job of a lane behind the place `after` that was given to no worker."""
        ...

    async def returned(self, lane: Lane, after: int = 0) -> tuple[Sequence[Waiting], int]:
        """The jobs behind the place `after` that were given to a worker and have no record yet.

        They were given back, or wait for a slot at their worker. The second value is the place up
        to which this call has read: `after` itself where there was nothing to read.
        """
        ...
