"""Jobs on one machine: on the embedded nats-server, beside serving and the Brokers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from relume.base.clock import Clock, SystemClock
from relume.base.errors import InvalidInput
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.config import Function, InferenceService, Plan
from relume.eventing.event_log import BrokerKey
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.front import JobsFront
from relume.eventing.jobs.job import JOB, ServiceName
from relume.eventing.jobs.plane import ClosableJobs, JobsPlane, Neighbours
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Record as JobRecord
from relume.eventing.observer import Observer, Record
from relume.plane.job_routes import JobRoutes
from relume.plane.subscribers import Destinations
from relume.serving.errors import ServiceUnknown
from relume.serving.settings import ServingSettings

if TYPE_CHECKING:
    from relume.eventing.plane import EventingPlane
    from relume.serving.plane import ServingPlane

# So many jobs whose attempts were told are remembered.
TOLD = 10_000


def local_jobs(
    plan: Plan,
    destinations: Destinations,
    http: str,
    nats: NatsServer,
    serving: "ServingPlane",
    eventing: "EventingPlane",
    front: JobsFront,
    observer: Observer,
    usage_broker: str | None,
) -> "LocalJobs":
    """Jobs for the models of a plan; `http` is the URL of the HTTP port.

    Their predictors are behind the same port, where a request waits for a model that is at zero.
    """
    clock, settings = SystemClock(), JobSettings()
    services = {ServiceName(each.namespace, each.name): each for each in plan.services}
    seen = _Serving(serving, services)
    routes = JobRoutes(plan.services, plan.functions)
    check_usage_broker(usage_broker, map(str, eventing.brokers))

    async def open_jobs() -> ClosableJobs:
        return await JetStreamJobs.connect([nats.url], settings, clock, disk=nats.disk, alone=True)

    jobs = JobsPlane(
        tuple(services),
        open_jobs,
        Neighbours(
            service_url=lambda service: destinations.service(str(service)),
            resolve=routes,
            result_url=lambda job_id: f"{http}/v1/jobs/{job_id}/result",
            concurrency=seen.concurrency,
            awake=seen.awake,
            phase=seen.phase,
            ready_in_s=seen.ready_in_s,
            cold_start_ms=seen.cold_start_ms,
        ),
        Sinks(
            clock,
            log=eventing.log,
            local=eventing.brokers,
            usage=usage_broker,
            stored=eventing.count,
        ),
        front,
        letters=eventing.log,
        settings=settings,
        clock=clock,
        noticed=_Telling(observer, clock).tell,
    )
    return LocalJobs(jobs, routes, seen)


def check_usage_broker(wanted: str | None, brokers: Iterable[str]) -> None:
    """Raise InvalidInput where the Broker of `--usage-broker` is not among `brokers`."""
    known = sorted(brokers)
    if wanted is not None and wanted not in known:
        names = ", ".join(known) or "none"
        raise InvalidInput(f"--usage-broker {wanted}: no such Broker here; there is {names}")


class LocalJobs:
    """The plane of jobs, and what of it changes with the services."""

    def __init__(self, plane: JobsPlane, routes: JobRoutes, seen: "_Serving") -> None:
        self.plane = plane
        self._routes = routes
        self._seen = seen

    def serve(self, services: Sequence[InferenceService], functions: Sequence[Function]) -> None:
        """Take jobs for these services from now on, and refuse those for `functions`.

        Jobs of one that is not among them any more get its 404 as their answer.
        """
        for service in services:
            name = ServiceName(service.namespace, service.name)
            self._seen.services[name] = service
            self.plane.add(name)
        self._routes.serve(services, functions)


class _Serving:
    """What the serving plane knows of each service, for predictions and comments."""

    def __init__(
        self,
        serving: "ServingPlane",
        services: dict[ServiceName, InferenceService],
    ) -> None:
        self._serving = serving
        self.services = services

    def concurrency(self, name: ServiceName) -> int | None:
        """containerConcurrency × the most replicas; None: not known."""
        service = self.services[name]
        replicas = service.max_replicas or ServingSettings().unlimited_replicas
        return service.container_concurrency * replicas or None

    def awake(self, name: ServiceName) -> bool:
        return bool(self._status(name).get("replicas"))

    def phase(self, name: ServiceName) -> str | None:
        phase = self._status(name).get("phase")
        return None if phase is None else str(phase)

    def ready_in_s(self, name: ServiceName) -> float | None:
        """What is left of the cold start that runs; None where none runs, or nothing tells."""
        status = self._status(name)
        ready_in_s = status.get("ready_in_s")
        if status.get("phase") is None or not isinstance(ready_in_s, int | float):
            return None
        return float(ready_in_s)

    def cold_start_ms(self, name: ServiceName) -> float | None:
        """How long a job that comes at zero waits for its first byte; None where nothing tells."""
        try:
            return self._serving.first_byte_ms(name.namespace, name.name)
        except ServiceUnknown:  # it was removed, and its jobs get their 404 in turn
            return None

    def _status(self, name: ServiceName) -> Mapping[str, object]:
        statuses: Sequence[Mapping[str, object]] = self._serving.status()["services"]
        for status in statuses:
            if (status["namespace"], status["name"]) == (name.namespace, name.name):
                return status
        return {}


class _Telling:
    """Tells those who watch events what becomes of jobs: `relume events`, `relume explain`."""

    def __init__(self, observer: Observer, clock: Clock) -> None:
        self._observer = observer
        self._clock = clock
        # The attempts that were told last: a new lease and its first attempt are two steps.
        self._told: dict[str, tuple[int, int]] = {}

    def tell(self, record: JobRecord) -> None:
        """One record for each attempt, answer and end of a job that this process has written."""
        if record.state == "leased" and not self._is_new_attempt(record):
            return
        if record.settled:
            self._told.pop(record.id, None)
        service = record.service
        attributes = {
            "specversion": "1.0",
            "id": record.id,
            "source": f"/namespaces/{service.namespace}/inferenceservices/{service.name}",
            "type": JOB,
        }
        if record.event is not None:
            attributes["causationid"] = str(record.event["id"])
        self._observer.publish(
            Record(
                at=rfc3339(self._clock.now()),
                stage=record.state,
                broker=str(BrokerKey(service.namespace, service.name)),
                event=CloudEvent(attributes),
                attempt=record.attempt or None,
                status=None if record.result is None else record.result.status,
                detail=" ".join(filter(None, (record.reason, record.detail))) or None,
            )
        )

    def _is_new_attempt(self, record: JobRecord) -> bool:
        attempt, before = (record.round, record.attempt), self._told.pop(record.id, (0, 0))
        self._told[record.id] = attempt
        if len(self._told) > TOLD:
            del self._told[next(iter(self._told))]
        return record.attempt > 0 and attempt != before
