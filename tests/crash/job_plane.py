"""The jobs plane of a trial: as `relume gateway` composes it, with short clocks."""

from starlette.responses import PlainTextResponse
from starlette.types import Scope

from relume.base.clock import Clock
from relume.eventing.event_log import BrokerKey
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jobs.door import Target
from relume.eventing.jobs.front import JobsFront
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.plane import JobsPlane, Neighbours
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.settings import EventingSettings
from tests.crash.job_processes import GatewayArguments

SERVICE = ServiceName("default", "stub")
# Short, because a killed process leaves its leases behind and the next one waits for their end.
SETTINGS = JobSettings(
    lease_s=0.6,
    heartbeat_s=0.2,
    inline_bytes=32 * 1024,
    result_inline_bytes=16 * 1024,
    in_flight=6,
    store_patience_s=3.0,
)
EVENTING = EventingSettings(lease_s=0.6, heartbeat_s=0.2, sweep_s=0.5)


def jobs_plane(arguments: GatewayArguments, clock: Clock) -> tuple[JobsPlane, JobsFront]:
    """The plane, and the application to serve."""
    front = JobsFront(PlainTextResponse("nothing but jobs", 404))

    async def open_jobs() -> JetStreamJobs:
        return await JetStreamJobs.connect([arguments.nats], SETTINGS, clock)

    neighbours = Neighbours(
        service_url=lambda _: arguments.predictor,
        resolve=_resolve,
        result_url=lambda job_id: f"http://127.0.0.1:{arguments.port}/v1/jobs/{job_id}/result",
    )

    def broker_url(broker: BrokerKey) -> str:
        return f"{arguments.sink}/{broker.namespace}/{broker.name}"

    sinks = Sinks(clock, url_of=broker_url, default=arguments.sink, usage=arguments.sink)
    plane = JobsPlane(
        [SERVICE],
        open_jobs,
        neighbours,
        sinks,
        front,
        settings=SETTINGS,
        eventing=EVENTING,
        clock=clock,
    )
    return plane, front


def _resolve(scope: Scope, _: bytes | None) -> Target | None:
    path: str = scope["path"]
    route = path.removeprefix(f"/serving/{SERVICE}")
    return None if route == path else Target(SERVICE, route)
