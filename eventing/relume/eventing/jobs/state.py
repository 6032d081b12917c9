"""The life of a job as a pure state machine: no I/O, no clock, no randomness.

    queued → leased → streaming → completed | failed | expired | cancelled | dead

A job that nobody has leased has no record: that it is queued is said by its work message. The first
lease creates the record, and every later step replaces it by compare-and-set on its revision. So of
two workers that both believe to hold a job, only the one with the newer lease can write: the
generation of a lease goes up with each delivery of the work message (fencing).

`step` is the settle matrix. The last step of a job carries its result, its usage and its reply in
one record, so all of it is settled at once or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args

from relume.base.errors import RelumeError
from relume.eventing.event_log import LeaseLost as LeaseLost
from relume.eventing.jobs.job import Job, Priority, ServiceName

Settled = Literal["completed", "failed", "expired", "cancelled", "dead"]
State = Literal["queued", "leased", "streaming"] | Settled
SETTLED: tuple[Settled, ...] = get_args(Settled)


class JobConflict(RelumeError):
    """The job is not in a state in which this can be done; the message names the state."""

    reason = "job-conflict"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has cost; tokens over all attempts that went on from each other, times in ms."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_ms: int = 0
    cold_start_ms: int = 0
    run_ms: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """The predictor's answer: its body lies here, or in the object store under `payload`."""

    status: int
    content_type: str
    body: bytes = b""
    payload: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a job since its first lease.

    `generation` is the number of deliveries of its work message in this `round`, `attempt` the
    number of requests that were sent to the predictor, `position` the last stored part of the
    answer, `reason` a stable word for how it ended. `reply` is the structured reply event of a job
    that came as an event. A `deleted` record is a tombstone: it keeps the key, nothing else.
    """

    id: str
    service: ServiceName
    route: str
    tenant: str
    owner: str
    priority: Priority
    digest: str
    accepted_at: datetime
    state: State
    round: int = 1
    generation: int = 0
    worker: str = ""
    attempt: int = 0
    leased_at: datetime | None = None
    streaming_at: datetime | None = None
    settled_at: datetime | None = None
    keep_s: float = 86_400.0
    position: int = 0
    reason: str = ""
    detail: str = ""
    result: Result | None = None
    usage: Usage = Usage()
    reply: bytes | None = None
    reply_to: str | None = None
    event: Mapping[str, object] | None = None
    deleted: bool = False

    @property
    def settled(self) -> bool:
        return self.state in SETTLED

    @property
    def started(self) -> bool:
        """Whether a predictor was ever asked: an expired job that was not is not billable."""
        return self.attempt > 0


@dataclass(frozen=True, slots=True)
class Leased:
    """A worker got the work message, for the `generation`th time in this round."""

    generation: int
    worker: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Attempted:
    """A request is about to be sent to the predictor."""

    generation: int


@dataclass(frozen=True, slots=True)
class Answering:
    """The predictor has begun to answer: the cold start is over."""

    generation: int
    at: datetime
    cold_start_ms: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker that holds the job is done with it."""

    generation: int
    at: datetime
    state: Settled
    reason: str = ""
    detail: str = ""
    result: Result | None = None
    usage: Usage = Usage()
    position: int = 0
    reply: bytes | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked that the job ends."""

    at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class QueueExpired:
    """The job was not leased in time."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Deleted:
    """Somebody asked that nothing of a settled job is kept but its key."""

    at: datetime


Happening = Leased | Attempted | Answering | Ended | Cancelled | QueueExpired | Deleted


def step(record: Record | None, job: Job, happening: Happening) -> Record:
    """The record after `happening`; `record` is None while the job was never leased.

    Raises LeaseLost to a worker that may write no more, and JobConflict to everybody else.
    """
    now = record if record is not None and record.round == job.round else _new(job)
    match happening:
        case Leased():
            return _leased(now, happening)
        case Attempted(generation=generation):
            return replace(_held(now, generation), state="leased", attempt=now.attempt + 1)
        case Answering(generation=generation, at=at, cold_start_ms=cold_start_ms):
            usage = replace(now.usage, cold_start_ms=now.usage.cold_start_ms + cold_start_ms)
            held = _held(now, generation)
            return replace(held, state="streaming", streaming_at=at, usage=usage)
        case Ended():
            return _ended(now, happening)
        case Cancelled(at=at, detail=detail):
            _unsettled(now, "be cancelled")
            return replace(now, state="cancelled", reason="cancelled", detail=detail, settled_at=at)
        case QueueExpired(at=at):
            if now.state != "queued":
                raise JobConflict(f"job {now.id} is {now.state}: it does not wait any more")
            return replace(now, state="expired", reason="queue", settled_at=at)
        case Deleted():
            if not now.settled:
                raise JobConflict(f"job {now.id} is {now.state}: cancel it before it is deleted")
            return replace(now, result=None, reply=None, event=None, detail="", deleted=True)


def may_be_retried(record: Record) -> bool:
    """Whether a job can be queued once more: it has ended without an answer."""
    return record.settled and record.state != "completed" and not record.deleted


def _new(job: Job) -> Record:
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
        reply_to=job.reply_to,
        event=job.event,
    )


def _leased(now: Record, lease: Leased) -> Record:
    if now.settled:
        raise LeaseLost(f"job {now.id} is {now.state} already")
    if lease.generation <= now.generation:
        raise LeaseLost(f"job {now.id} was leased to {now.worker} since")
    return replace(
        now,
        state="leased",
        generation=lease.generation,
        worker=lease.worker,
        leased_at=now.leased_at or lease.at,
    )


def _ended(now: Record, end: Ended) -> Record:
    return replace(
        _held(now, end.generation),
        state=end.state,
        reason=end.reason,
        detail=end.detail,
        result=end.result,
        usage=end.usage,
        position=end.position,
        reply=end.reply,
        settled_at=end.at,
    )


def _held(now: Record, generation: int) -> Record:
    if now.settled:
        raise LeaseLost(f"job {now.id} is {now.state} already")
    if generation != now.generation:
        raise LeaseLost(f"job {now.id} was leased to {now.worker} since")
    return now


def _unsettled(now: Record, what: str) -> None:
    if now.settled:
        raise JobConflict(f"job {now.id} is {now.state}: it cannot {what} any more")
