"""The jobs gateway as a process of its own: the plane of jobs beside a NATS cluster.

It keeps nothing: any number of them serve the same jobs. The port answers before NATS does, so that
`/healthz` says that the process lives and `/readyz` that it serves.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.clock import Clock, SystemClock
from relume.base.errors import InvalidInput
from relume.base.version import version
from relume.base.vocabulary import Json
from relume.config import Plan
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.jetstream.jobs import JetStreamJobs
from relume.eventing.jetstream.keys import key_store
from relume.eventing.jobs.access import Access, Guarded, check_bind
from relume.eventing.jobs.dataref import DatarefRules, Datarefs, hosts_named
from relume.eventing.jobs.front import JobsFront
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.keys import KeyStore, StoredKey
from relume.eventing.jobs.oidc import OidcSettings, Tokens
from relume.eventing.jobs.plane import ClosableJobs, JobsPlane, Neighbours
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.plane.addresses import listen, url_of
from relume.plane.gateway_letters import PREFIX, GatewayLetters
from relume.plane.grace import Grace
from relume.plane.job_routes import JobRoutes
from relume.plane.nats_servers import NatsServers
from relume.plane.server import HttpServer
from relume.plane.url_templates import BROKER_URL, SERVICE_URL, UrlTemplate
from relume.serving.addresses import raw_path_of
from relume.web.bodies import DecodedBodies, as_at_broker

log = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 8082
_TRY_AGAIN_S = 2.0


class NoServices(InvalidInput):
    """The files name no model that the gateway could serve."""

    reason = "no-services"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How one gateway runs. `servers` are those of NATS.

    `service_url` and `broker_url` are templates (`UrlTemplate`); where the plan has one service, or
    one Broker, each may be its plain URL. `sink` gets the answers to events
    that name no Broker, and the usage events (None: nobody does). `public_url` is where callers
    reach the gateway, for links in events. `data_hosts` are the hosts from which the data of events
    may be fetched.
    """

    servers: NatsServers
    host: str = HOST
    port: int = PORT
    service_url: str = SERVICE_URL
    broker_url: str = BROKER_URL
    sink: str | None = None
    public_url: str | None = None
    keys: bool = False
    oidc: OidcSettings | None = None
    open_events: bool = False
    operators: tuple[str, ...] = ()
    data_hosts: tuple[str, ...] = ()
    grace_s: float = 60.0


class Gateway:
    """One gateway, between the start and the end of `running`."""

    def __init__(self, plan: Plan, settings: GatewaySettings) -> None:
        """Raises InvalidInput for what could not work."""
        if not plan.services:
            raise NoServices("the files name no InferenceService, so there is nothing to serve")
        self.plan = plan
        self.grace = Grace(settings.grace_s)
        self.url = ""
        self._settings = settings
        self._clock: Clock = SystemClock()
        self._service_url = UrlTemplate(
            "--service-url", settings.service_url, only=len(plan.services) == 1
        )
        self._broker_url = UrlTemplate(
            "--broker-url", settings.broker_url, only=len(plan.brokers) == 1
        )
        self._data_hosts = hosts_named("--data-from", settings.data_hosts)
        self._services = [ServiceName(each.namespace, each.name) for each in plan.services]
        self._routes = JobRoutes(plan.services, plan.functions)
        self._keys = _LateKeys() if settings.keys else None
        tokens = Tokens(settings.oidc) if settings.oidc is not None else None
        self._access = Access(self._clock, self._keys, tokens)
        check_bind(settings.host, self._access)
        self._letters = GatewayLetters(settings.operators, self._clock)
        self._front = JobsFront(_Rest(self._routes, self._letters))
        self._jobs: JobsPlane | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Gateway"]:
        """Serve for as long as the block runs; drain within the grace when it ends.

        The block begins when NATS has answered. Raises PortTaken, and what the plane of jobs could
        not start for.
        """
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            listening = stack.enter_context(listen(settings.port, "--port", settings.host))
            self.url = url_of(listening)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            server = HttpServer(self._app(), listening, websockets=False)
            server.start(group)
            stack.push_async_callback(server.drain, self.grace)
            jobs = await self._started(stack)
            group.create_task(jobs.wait())  # if it fails, the gateway ends and says why
            stack.push_async_callback(self._drain, jobs)
            yield self

    def _app(self) -> ASGIApp:
        guarded = Guarded(self._front, self._access, open_events=self._settings.open_events)
        return _Probed(DecodedBodies(guarded, refusal=as_at_broker), self)

    async def _started(self, stack: contextlib.AsyncExitStack) -> JobsPlane:
        """The plane of jobs, as soon as NATS answers."""
        servers, told = self._settings.servers, ""
        while True:
            jobs = self._plane()
            try:
                if self._keys is not None:
                    await self._keys.open(stack, servers)
                await jobs.start()
            except StoreUnavailable as error:
                if str(error) != told:
                    log.warning("waiting for NATS at %s: %s", servers.shown, error)
                    told = str(error)
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                self._jobs = jobs
                return jobs

    def _plane(self) -> JobsPlane:
        settings, job_settings = (
            self._settings,
            JobSettings(replicas=self._settings.servers.replicas),
        )
        public = (settings.public_url or self.url).rstrip("/")
        known = {each.namespace for each in self._services}
        brokers = {BrokerKey(each.namespace, each.name) for each in self.plan.brokers}
        concurrency = {
            ServiceName(each.namespace, each.name): each.container_concurrency * each.max_replicas
            for each in self.plan.services
        }

        async def open_jobs() -> ClosableJobs:
            servers = settings.servers
            opened = await JetStreamJobs.connect(
                servers.urls, job_settings, self._clock, credentials=servers.credentials
            )
            self._letters.open(opened.letters)
            return opened

        def broker_url(broker: BrokerKey) -> str | None:
            # Answers stay in the namespaces of the services: a request cannot send them elsewhere.
            if broker.namespace not in known:
                return None
            if not self._broker_url.tells_apart and broker not in brokers:
                return None  # the plain URL is another Broker's
            return self._broker_url.url(broker.namespace, broker.name)

        hosts = self._data_hosts
        return JobsPlane(
            self._services,
            open_jobs,
            Neighbours(
                service_url=lambda each: self._service_url.url(each.namespace, each.name),
                resolve=self._routes,
                result_url=lambda job_id: f"{public}/v1/jobs/{job_id}/result",
                concurrency=lambda each: concurrency[each] or None,
            ),
            Sinks(self._clock, url_of=broker_url, default=settings.sink, usage=settings.sink),
            self._front,
            settings=job_settings,
            clock=self._clock,
            datarefs=Datarefs(DatarefRules(hosts=hosts)) if hosts else None,
            operators=settings.operators,
        )

    async def _drain(self, jobs: JobsPlane) -> None:
        await self.grace.bound(jobs.stop(self.grace.left()))

    async def ready(self) -> bool:
        """Whether it serves, and NATS answers."""
        return self._jobs is not None and await self._jobs.ready()

    def status(self) -> Json:
        """JSON types only."""
        return {
            "version": version(),
            "pid": os.getpid(),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "nats": self._settings.servers.shown,
            "jobs": self._jobs.status() if self._jobs is not None else {},
        }


class _LateKeys:
    """The store of keys, once NATS has answered; nobody has a valid key before."""

    def __init__(self) -> None:
        self._store: KeyStore | None = None

    async def open(self, stack: contextlib.AsyncExitStack, servers: NatsServers) -> None:
        if self._store is None:
            opened = key_store(servers.urls, servers.credentials, servers.replicas, lasting=True)
            self._store = await stack.enter_async_context(opened)

    @property
    def _there(self) -> KeyStore:
        if self._store is None:
            raise StoreUnavailable("API keys cannot be checked yet: NATS has not answered")
        return self._store

    async def put(self, key: StoredKey) -> None:
        await self._there.put(key)

    async def get(self, key_id: str) -> StoredKey | None:
        return await self._there.get(key_id)

    async def all(self) -> "list[StoredKey]":
        return list(await self._there.all())

    async def remove(self, key_id: str) -> bool:
        return await self._there.remove(key_id)


class _Probed:
    """The probes of a cluster in front of everything, without access and without a body."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response | None = None
        if scope["type"] == "http" and scope["path"] == "/healthz":
            response = PlainTextResponse("ok\n")
        elif scope["type"] == "http" and scope["path"] == "/readyz":
            ready = await self._gateway.ready()
            words = "ready\n" if ready else "NATS does not answer, or this process stops\n"
            response = PlainTextResponse(words, 200 if ready else 503)
        await (response or self._app)(scope, receive, send)


class _Rest:
    """What is no job: the models, dead letters, and the way to a job for everything else."""

    def __init__(self, routes: JobRoutes, letters: GatewayLetters) -> None:
        self._routes = routes
        self._letters = letters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"a gateway speaks HTTP, not {scope['type']}")
        if scope["path"].startswith(PREFIX):
            await self._letters(scope, receive, send)
            return
        listed = self._routes.models.answer(scope["method"], raw_path_of(scope))
        await (listed or _only_jobs())(scope, receive, send)


def _only_jobs() -> Response:
    words = (
        "this gateway takes jobs: add the header Prefer: respond-async to a POST, or ask the "
        "service itself"
    )
    return JSONResponse({"error": words, "reason": "not-a-job"}, 404)
