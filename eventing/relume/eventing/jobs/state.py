"""The life of a job as a pure state machine: no I/O, no clock, no randomness.

    queued → leased → streaming → completed | failed | expired | cancelled | dead

A job that nobody has leased has no record: its work message says that it is queued. The first
lease creates the record, and every later step replaces it by compare-and-set on its revision. So of
two workers that both believe to hold a job, only the one with the newer lease can write: the
generation of a lease goes up with each delivery of the work message (fencing).

`step` is the settle matrix. The last step of a job carries its result, its usage and its reply in
one record, so all of it is settled at once or not at all.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from relume.base.errors import RelumeError
from relume.eventing.event_log import LeaseLost as LeaseLost
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.record import NO_USAGE
from relume.eventing.jobs.record import SETTLED as SETTLED
from relume.eventing.jobs.record import Record as Record
from relume.eventing.jobs.record import Result as Result
from relume.eventing.jobs.record import Settled as Settled
from relume.eventing.jobs.record import State as State
from relume.eventing.jobs.record import Usage as Usage
from relume.eventing.jobs.record import is_shown as is_shown
from relume.eventing.jobs.settings import lifetime_s


class JobConflict(RelumeError):
    """The job is not in a state in which this can be done; the message names the state."""

    reason = "job-conflict"


class AlreadySettled(LeaseLost):
    """The job is settled in this round, or deleted: acknowledge the work message and drop it."""

    reason = "already-settled"


@dataclass(frozen=True, slots=True)
class Leased:
    """A worker got the work message, for the `generation`th time in this round.

    With `begins` it asks the predictor at once: this is Leased and Attempted in one step.
    """

    generation: int
    worker: str
    at: datetime
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Attempted:
    """A request is about to be sent to the predictor. Ask `may_be_attempted` before."""

    generation: int


@dataclass(frozen=True, slots=True)
class Answering:
    """The predictor has begun to answer: the cold start is over."""

    generation: int
    at: datetime
    cold_start_ms: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker that holds the job is done with it.

    `usage` and `position` are of the whole job, the attempts of earlier workers included; where
    they are lower than what the record has, that stays.
    """

    generation: int
    at: datetime
    state: Settled
    reason: str = ""
    detail: str = ""
    result: Result | None = None
    usage: Usage = NO_USAGE
    position: int = 0
    reply: bytes | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked that the job ends. `position` is the last part of the answer that is stored.

    Readers of the stream end there, even if the worker stores another part before it notices.
    `usage` has the tokens of the parts up to there; other figures of the record stay.
    """

    at: datetime
    detail: str = ""
    position: int = 0
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class QueueExpired:
    """The job was not tried in time. `generation` is the lease of whoever says so, 0 without one.

    With a lease it also ends a job whose worker died before it asked the predictor.
    """

    at: datetime
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Deleted:
    """Somebody asked that nothing of a settled job is kept but its key."""

    at: datetime


Happening = Leased | Attempted | Answering | Ended | Cancelled | QueueExpired | Deleted


def step(record: Record | None, job: Job | None, happening: Happening) -> Record:
    """The record after `happening`.

    `record` is None while the job was never leased, `job` None when its work message is gone; one
    of them is there. Raises LeaseLost to a worker that may write no more, AlreadySettled to one
    that acknowledges the work message besides, and JobConflict to everybody else.
    """
    now = _current(record, job)
    if _is_over(now, job):
        return _after_the_end(now, job, happening)
    match happening:
        case Leased(begins=begins):
            leased = _leased(now, happening)
            return _attempted(leased, job) if begins else leased
        case Attempted(generation=generation):
            return _attempted(_held(now, generation), job)
        case Answering():
            return _answering(_held(now, happening.generation), happening)
        case Ended():
            return _ended(_held(now, happening.generation), happening)
        case Cancelled():
            return _cancelled(now, happening)
        case QueueExpired():
            return _expired(now, happening)
        case Deleted():
            raise JobConflict(f"job {now.id} is {now.state}: cancel it before it is deleted")


def may_be_attempted(record: Record, job: Job) -> bool:
    """Whether the predictor may be asked (once more) in this round."""
    return record.attempt < job.limits.max_attempts


def may_be_retried(record: Record) -> bool:
    """Whether a job can be queued once more: it has ended without an answer."""
    return record.settled and record.state != "completed" and not record.deleted


def next_round(record: Record | None, job: Job, at: datetime) -> Job:
    """The job that a retry queues in place of `job`: it waits from now on, and begins anew.

    Raises JobConflict where there is nothing to retry: it still waits or runs, it has an answer,
    it is deleted, or somebody else has retried it already.
    """
    now = _current(record, job)
    if now.deleted:
        raise JobConflict(f"job {now.id} is deleted: submit it again with another key")
    if now.round > job.round:
        raise JobConflict(f"job {now.id} is in round {now.round}: somebody else has retried it")
    if not may_be_retried(now):
        raise JobConflict(f"job {now.id} is {now.state}: only a job without an answer is retried")
    return replace(job, round=now.round + 1, accepted_at=at)


def fence(job: Job, generation: int) -> int:
    """The number that parts of an answer carry; it grows with each lease and with each round.

    Parts of an earlier round, which its worker may store late, are told from those of this one.
    """
    return (job.round << 32) + generation


def round_of(fence: int) -> int:
    """The round in which a part with this number was stored."""
    return fence >> 32


def _current(record: Record | None, job: Job | None) -> Record:
    """The record as of the round of the work message. A tombstone ends all rounds."""
    if job is None:
        if record is None:
            raise ValueError("neither a record nor a work message")
        return record
    if record is None:
        return _new(job, 0)
    if record.deleted or record.round >= job.round:
        return record
    # The end of the earlier round has shown its readers one position more than its last part has.
    return _new(job, record.position + 1)


def _new(job: Job, position: int) -> Record:
    return Record(
        id=job.id,
        service=job.service,
        route=job.route,
        tenant=job.tenant,
        owner=job.owner,
        priority=job.priority,
        digest=job.digest,
        accepted_at=job.accepted_at,
        state="queued",
        round=job.round,
        keep_s=job.limits.keep_s,
        request_s=lifetime_s(job.limits),
        position=position,
        reply_to=job.reply_to,
        event=job.event,
    )


def _is_over(now: Record, job: Job | None) -> bool:
    """Whether the round that somebody speaks of is settled."""
    return now.settled or (job is not None and now.round > job.round)


def _after_the_end(now: Record, job: Job | None, happening: Happening) -> Record:
    over: str = "deleted" if now.deleted else now.state
    if job is not None and now.round > job.round:
        over = f"{over} in round {now.round}, and this was round {job.round}"
    elif isinstance(happening, Deleted):
        return _tombstone(now)
    if isinstance(happening, Leased | Attempted | Answering | Ended):
        raise AlreadySettled(f"job {now.id} is {over} already")
    raise JobConflict(f"job {now.id} is {over} already")


def _tombstone(now: Record) -> Record:
    # Of the event that the job came as, only the key stays.
    event = now.event and {name: now.event[name] for name in ("id", "source") if name in now.event}
    return replace(
        now, result=None, reply=None, reply_to=None, event=event, detail="", deleted=True
    )


def _leased(now: Record, lease: Leased) -> Record:
    if lease.generation <= now.generation:
        raise LeaseLost(f"job {now.id} was leased to {now.worker or 'nobody'} since")
    return replace(
        now,
        state="leased",
        generation=lease.generation,
        worker=lease.worker,
        leased_at=now.leased_at or lease.at,
    )


def _attempted(held: Record, job: Job | None) -> Record:
    if job is not None and not may_be_attempted(held, job):
        raise JobConflict(f"job {held.id} was tried {held.attempt} times: it has no more")
    return replace(held, state="leased", attempt=held.attempt + 1)


def _answering(held: Record, answering: Answering) -> Record:
    if not held.attempt:
        raise JobConflict(f"job {held.id} was never sent to a predictor, so none can answer")
    if held.state == "streaming":
        return held  # said twice
    cold_start_ms = held.usage.cold_start_ms + answering.cold_start_ms
    usage = replace(held.usage, cold_start_ms=cold_start_ms)
    return replace(held, state="streaming", streaming_at=answering.at, usage=usage)


def _ended(held: Record, end: Ended) -> Record:
    if end.state == "completed" and not held.attempt:
        raise JobConflict(f"job {held.id} was never sent to a predictor, so it is not completed")
    return replace(
        held,
        state=end.state,
        reason=end.reason,
        detail=end.detail,
        result=end.result,
        usage=end.usage.at_least(held.usage),
        position=max(end.position, held.position),
        reply=end.reply,
        settled_at=end.at,
    )


def _cancelled(now: Record, cancelled: Cancelled) -> Record:
    return replace(
        now,
        state="cancelled",
        reason="cancelled",
        detail=cancelled.detail,
        settled_at=cancelled.at,
        position=max(now.position, cancelled.position),
        usage=cancelled.usage.at_least(now.usage),
    )


def _expired(now: Record, expired: QueueExpired) -> Record:
    if now.attempt:
        raise JobConflict(f"job {now.id} is {now.state}: it does not wait any more")
    if now.state != "queued" and expired.generation <= now.generation:
        raise JobConflict(f"job {now.id} is leased to {now.worker}, who may begin any time")
    generation = max(now.generation, expired.generation)
    return replace(
        now, state="expired", reason="queue", settled_at=expired.at, generation=generation
    )


def _held(now: Record, generation: int) -> Record:
    if now.state == "queued":
        raise LeaseLost(f"job {now.id} waits: nobody holds it")
    if generation != now.generation:
        raise LeaseLost(f"job {now.id} was leased to {now.worker} since")
    return now
