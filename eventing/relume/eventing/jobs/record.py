"""What is known of a job since its first lease, as one record. How it changes is in `state.py`."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Literal, get_args

from relume.eventing.jobs.job import Priority, ServiceName

Settled = Literal["completed", "failed", "expired", "cancelled", "dead"]
State = Literal["queued", "leased", "streaming"] | Settled
SETTLED: tuple[Settled, ...] = get_args(Settled)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has cost; tokens over all attempts that went on from each other, times in ms."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_ms: int = 0
    cold_start_ms: int = 0
    run_ms: int = 0

    def at_least(self, before: "Usage") -> "Usage":
        """The same, with no figure below one that was known before."""
        return Usage(*(max(pair) for pair in zip(astuple(self), astuple(before), strict=True)))


NO_USAGE = Usage()


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
    number of requests that were sent to the predictor in this round, `leased_at` the time of the
    first lease, `streaming_at` when the last attempt began to be answered. `position` is the last
    position that was given away: the last stored part of the answer, and at the start of a new
    round the end of the one before. It never goes down. `reason` is a stable word for how the job
    ended. `reply` is the structured reply event of a job that came as an event. A `deleted` record
    is a tombstone: it keeps the key and what the usage event says, and nothing that was said.

    `keep_s` is how long the settled job is shown. The record is stored for at least `request_s`,
    as long as the work message: a job that is settled must not look like one that waits.
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
    request_s: float = 0.0
    position: int = 0
    reason: str = ""
    detail: str = ""
    result: Result | None = None
    usage: Usage = NO_USAGE
    reply: bytes | None = None
    reply_to: str | None = None
    event: Mapping[str, object] | None = None
    deleted: bool = False

    @property
    def settled(self) -> bool:
        return self.state in SETTLED

    @property
    def stored_s(self) -> float:
        """How long the record is stored after it was settled, in seconds."""
        return max(self.keep_s, self.request_s)

    @property
    def started(self) -> bool:
        """Whether a predictor was ever asked: an expired job that was not is not billable."""
        return self.attempt > 0


def is_shown(record: Record, now: datetime) -> bool:
    """Whether a job is still kept for those who ask: for `keep_s` after it was settled."""
    if record.settled_at is None:
        return True
    return (now - record.settled_at).total_seconds() < record.keep_s
