"""The answers of the control API, as types that check a plane's JSON.

Fields that a newer plane adds are ignored; a missing or wrong one is NotAPlane.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from relume.base.sizes import written
from relume.base.vocabulary import ARRIVAL_TIME, COLD_START_PHASES, LAUNCH_PHASES, MEMORY_PHASE
from relume.cli.errors import NotAPlane

_JOB = "relume.job"
DeliveryKey = tuple[str, str | None, str]
"""Broker, Trigger, and id of the event that is delivered."""


class PlaneAnswer(BaseModel):
    """The base of all answers; it ignores fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    _raw: object = PrivateAttr(default=None)

    @property
    def raw(self) -> object:
        """The JSON value as it came, with the fields that this version does not know."""
        return self._raw

    @classmethod
    def parse(cls, value: object) -> Self:
        """Check one JSON value. Raises NotAPlane naming the first field that is wrong."""
        try:
            report = cls.model_validate(value)
            report._raw = value
            return report
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or cls.__name__.lower()
            raise NotAPlane(
                f"the plane's answer is not understood: {field}: {first['msg'].lower()}"
            ) from None


class ColdStartReport(PlaneAnswer):
    """One entry of the cold-start ledger; `phases` in milliseconds, in order."""

    service: str
    namespace: str = ""
    revision: str = ""
    started: str | None = None
    at: str = ""
    ready: float | None = None
    triggered_by: str | None = None
    outcome: str = "ready"
    reason: str | None = None
    total: float | None = None
    phases: dict[str, float] = Field(default_factory=dict)
    answer: float | None = None
    """From the first token to the first byte of the answer, which is no part of the start."""
    ended: float | None = None
    """From `at` to the end of a start that failed or was given up."""

    @model_validator(mode="before")
    @classmethod
    def _gather_phases(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        first, *others = COLD_START_PHASES
        names = (first, MEMORY_PHASE, *LAUNCH_PHASES, *others)
        measured = {name: value[name] for name in names if value.get(name) is not None}
        return {**value, "phases": measured}

    @property
    def start_ms(self) -> float | None:
        """From the arrival of the request that caused it to the first token; None: not known.

        An answer that is not streamed has its first byte, which ends `total`, only when all of it
        is generated. That time is no part of the start. Of a process that was told to stop before
        its first answer the first token is not known; its start ends when it is ready.
        """
        if self.total is None or self.ready is None:
            return self.total
        first_token = self.phases.get("first_token", 0.0)
        return min(self.total, self.phases.get("queue", 0.0) + self.ready + first_token)


class NamedStatus(PlaneAnswer):
    """What the status of every resource begins with."""

    namespace: str
    name: str

    @property
    def full_name(self) -> str:
        return f"{self.namespace}/{self.name}"


class ServiceMemory(PlaneAnswer):
    """What one replica of a service needs, in bytes; None where memory is not bounded.

    Where one waits for room: for how many seconds, and which services hold the memory.
    """

    need: int | None = None
    waiting_s: float | None = None
    waits_for: tuple[str, ...] = ()


class ServiceStatus(NamedStatus):
    """One InferenceService as the serving plane sees it now."""

    revision: str = ""
    state: str
    reason: str | None = None
    rollout: "RolloutStatus | None" = None
    traffic: tuple["RevisionStatus", ...] = ()
    phase: str | None = None
    replicas: int = 0
    desired: int = 0
    ready_in_s: float | None = None
    held: int = 0
    refused: int = 0
    warm_at: str | None = None
    in_flight: int = 0
    url: str = ""
    pids: tuple[int, ...] = ()
    cold_starts: int = 0
    last_cold_start: ColdStartReport | None = None
    log_tail: tuple[str, ...] = ()
    memory: ServiceMemory = ServiceMemory()

    @property
    def ready_in(self) -> str | None:
        """When it is predicted to be ready, in words; None where nothing tells, or it is."""
        return f"ready in {max(round(self.ready_in_s), 1)} s" if self.ready_in_s else None


class ReloadReport(PlaneAnswer):
    """What a plane has taken over of its changed files.

    `shares` has the percent of each changed service that has no new revision.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    shares: dict[str, int] = {}


class RevisionStatus(PlaneAnswer):
    """One of the two revisions that share the requests of a service.

    `percent` is what it gets now, and `asked` what the manifest says: a canary gets nothing before
    it was ready once.
    """

    tag: str
    percent: int
    asked: int
    revision: str
    state: str
    reason: str | None = None
    replicas: int = 0
    held: int = 0
    in_flight: int = 0
    cold_starts: int = 0
    log_tail: tuple[str, ...] = ()


class RolloutStatus(PlaneAnswer):
    """The revision that is to follow the one that answers, and why it has not yet."""

    to: str
    reason: str | None = None


class BrokerStatus(NamedStatus):
    """One log as the eventing plane sees it now; `of` is the flow that it belongs to."""

    url: str
    of: str | None = None
    profile: str = "strict"
    accepted: int = 0
    dead_letters: int = 0


class RequestReplyStatus(NamedStatus):
    """One RequestReply as the eventing plane sees it now."""

    broker: str
    url: str = ""
    waiting: int = 0


class TriggerStatus(NamedStatus):
    """One Trigger as the eventing plane sees it now; its Broker is in its own namespace."""

    broker: str
    subscriber: str = ""
    pending: int = 0
    in_flight: int = 0
    delivered: int = 0
    replied: int = 0
    retried: int = 0
    dead_lettered: int = 0
    dropped: int = 0


class NatsStatus(PlaneAnswer):
    """The supervised nats-server."""

    state: str = ""
    restarts: int = 0

    @property
    def words(self) -> str:
        return self.state + (f", restarted {self.restarts} times" if self.restarts else "")


class KeptStatus(PlaneAnswer):
    """Something that stays in memory while services are at zero."""

    name: str
    bytes: int


class MemoryStatus(PlaneAnswer):
    """The budget of memory and what is used of it, in bytes; without a budget None."""

    budget: int | None = None
    used: int = 0
    kept: tuple[KeptStatus, ...] = ()

    @property
    def words(self) -> str:
        if self.budget is None:
            return "not bounded"
        kept = "".join(f", {each.name} {written(each.bytes)}" for each in self.kept)
        return f"{written(self.used)} of {written(self.budget)}{kept}"


class ServingStatus(PlaneAnswer):
    services: tuple[ServiceStatus, ...] = ()
    memory: MemoryStatus = MemoryStatus()


class EventingStatus(PlaneAnswer):
    brokers: tuple[BrokerStatus, ...] = ()
    triggers: tuple[TriggerStatus, ...] = ()
    request_replies: tuple[RequestReplyStatus, ...] = ()
    nats: NatsStatus | None = None


class LaneReport(PlaneAnswer):
    """What one tenant has waiting at one priority."""

    priority: str
    tenant: str
    waiting: int = 0


class QueueReport(PlaneAnswer):
    """The queue of one service. `running` are the jobs that the program that answers runs.

    It is None where that program does not count them.
    """

    service: str
    waiting: int = 0
    running: int | None = 0
    paused: bool = False
    lanes: tuple[LaneReport, ...] = Field(default_factory=tuple)


class JobsStatus(PlaneAnswer):
    """The queues of the services."""

    queues: tuple[QueueReport, ...] = ()


class EngineStatus(PlaneAnswer):
    """The engine of a service that stays loaded at zero: `stopped`, `loading` or `ready`."""

    service: str
    state: str = "stopped"
    rss_mb: float | None = None


_WHY = {
    "stopped": ": no service wants it yet",
    "failed": ": starts are fresh processes until it loads again",
    "dropped": ": others needed its memory, and every start is a fresh process",
}


class TemplateStatus(PlaneAnswer):
    """The warm template: `off`, `stopped`, `loading`, `ready`, `failed` or `dropped`."""

    state: str = "off"
    rss_mb: float | None = None
    engines: tuple[EngineStatus, ...] = ()

    @property
    def words(self) -> str:
        memory = f", {self.rss_mb:,.0f} MB" if self.rss_mb is not None else ""
        engines = "".join(f"; engine of {e.service} {e.state}" for e in self.engines)
        return self.state + _WHY.get(self.state, "") + memory + engines


class Status(PlaneAnswer):
    """`GET /relume/status`."""

    version: str
    pid: int
    started_at: str
    http: str
    broker: str
    state_dir: str
    serving: ServingStatus
    eventing: EventingStatus
    template: TemplateStatus = TemplateStatus()
    jobs: JobsStatus = JobsStatus()


class EventRecord(PlaneAnswer):
    """One thing that happened to one event; `event` is its structured JSON form.

    Of an event with long data the plane keeps the size (`bytes`), the beginning (`begins`) and the
    `key` by which its log has the rest; then `event` has no data.
    """

    at: str
    stage: str
    broker: str
    trigger: str | None = None
    event: dict[str, object]
    attempt: int | None = None
    status: int | None = None
    ms: float | None = None
    detail: str | None = None
    bytes: int | None = None
    begins: str | None = None
    key: str | None = None

    @property
    def id(self) -> str:
        return str(self.event.get("id", ""))

    @property
    def type(self) -> str:
        return str(self.event.get("type", ""))

    @property
    def source(self) -> str:
        return str(self.event.get("source", ""))

    @property
    def is_job(self) -> bool:
        """Whether it tells of a job; its event stands for the job then, and has its id."""
        return self.type == _JOB

    @property
    def causation(self) -> str | None:
        """The id of the event that this one answers."""
        cause = self.event.get("causationid")
        return None if cause is None else str(cause)

    @property
    def answers(self) -> str | None:
        """The id of the event to which this one was the reply, where this record says it."""
        if self.stage != "replied" or self.detail is None:
            return None
        return self.detail.removeprefix("to ")

    @property
    def delivery(self) -> DeliveryKey:
        """By what the records of one delivery belong together: Broker, Trigger, and event."""
        return self.broker, self.trigger, self.answers or self.id

    @property
    def arrived(self) -> str | None:
        """When the event came to its Broker, in a record of an event that the Broker had stored."""
        at = self.event.get(ARRIVAL_TIME)
        return at if isinstance(at, str) else None


class DeadLetterReport(PlaneAnswer):
    """One dead letter; `said` begins the subscriber's last answer, `bytes` counts the data."""

    sequence: int
    at: str
    broker: str
    trigger: str
    type: str
    id: str
    code: int | None = None
    reason: str = ""
    said: str = ""
    destination: str = ""
    bytes: int = 0
    event: dict[str, object] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)


class DeadLetterPage(PlaneAnswer):
    """A page of dead letters; `next` is where the next page begins, or None after the last."""

    letters: tuple[DeadLetterReport, ...]
    next: int | None = None
