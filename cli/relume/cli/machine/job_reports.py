"""What a plane or a gateway says of jobs and queues, as types that check its JSON."""

from relume.cli.machine.reports import PlaneAnswer

SETTLED = ("completed", "failed", "expired", "cancelled", "dead")
STATUSES = ("queued", "leased", "streaming", *SETTLED)


class UsageReport(PlaneAnswer):
    """What a job has cost: tokens over all attempts that went on from each other, times in ms."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_ms: int = 0
    cold_start_ms: int = 0
    run_ms: int = 0


class JobReport(PlaneAnswer):
    """One job; times in RFC 3339. `position` and `predicted_start_s` are there while it waits."""

    id: str
    status: str
    service: str
    route: str = ""
    priority: str = ""
    tenant: str = ""
    created_at: str
    started_at: str | None = None
    settled_at: str | None = None
    attempts: int = 0
    round: int = 1
    reason: str | None = None
    detail: str | None = None
    usage: UsageReport | None = None
    position: int | None = None
    predicted_start_s: float | None = None
    expires_at: str | None = None
    event: dict[str, object] | None = None  # the event as which it came

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


class JobPage(PlaneAnswer):
    """One page of a list, newest first; `last_id` is where the next page begins."""

    data: tuple[dict[str, object], ...]
    has_more: bool = False
    last_id: str | None = None

    @property
    def jobs(self) -> tuple[JobReport, ...]:
        return tuple(map(JobReport.parse, self.data))


class QueueList(PlaneAnswer):
    """The queues of all services."""

    data: tuple[dict[str, object], ...]
