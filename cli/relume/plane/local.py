"""The plane: everything that `relume up` runs, put together on one event loop.

`LocalPlane.running` starts the parts from the bottom up, so that each finds what it needs:

1. the state folder, which only one plane may hold
2. the HTTP port and the Brokers' port
3. nats-server, which stores the events
4. the warm template, which imports vLLM in the background when a service wants it
5. the environments of functions, which are made in the background
6. serving, with the control API and the place of jobs in front of it, on the HTTP port
7. eventing, behind the ingress of the Brokers, on the Brokers' port
8. jobs, in their place on the HTTP port: their answers go to Brokers, their requests to serving
9. plane.json, where other commands find the addresses

They are stopped in the reverse order, so that an event that is being answered still finds its
predictor. Jobs and events drain at the same time, because both may take the whole grace.
nats-server needs seconds to open a long log, so it starts first; slow imports happen meanwhile. The
template starts after them, because on two cores it would take a fifth of a second from the port.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from relume.base.version import version
from relume.base.vocabulary import Json
from relume.config import Plan
from relume.eventing.jetstream.server import Fsync, NatsServer
from relume.eventing.observer import Observer
from relume.eventing.settings import EventingSettings
from relume.plane.addresses import (
    DEFAULT_BROKER_PORT,
    DEFAULT_HTTP_PORT,
    PlaneFile,
    StateFolder,
    listen,
    url_of,
)
from relume.plane.functions import FunctionLauncher, empty_folder
from relume.plane.grace import Grace
from relume.plane.imported_meanwhile import import_brokers_after
from relume.plane.imported_meanwhile import import_servers as _import_the_servers
from relume.plane.launch import LocalLauncher, template_status
from relume.plane.launchers import EveryLauncher, checked
from relume.plane.memory import MEMORY_WAIT_S
from relume.plane.reloading import reload
from relume.plane.sink_bindings import sink_environment
from relume.plane.subscribers import Destinations, SubscriberCapacity
from relume.runtimes.function.environments import Environments
from relume.runtimes.model_templates import ModelTemplates
from relume.runtimes.models.store import ModelStore
from relume.runtimes.spawn import FreshLauncher, Launcher, Template, TemplateLauncher

if TYPE_CHECKING:
    from relume.eventing.envelope import Envelope
    from relume.eventing.event_log import BrokerKey
    from relume.eventing.jobs.front import JobsFront
    from relume.eventing.jobs.plane import JobsPlane
    from relume.eventing.plane import EventingPlane
    from relume.eventing.request_reply import RequestReplies
    from relume.plane.taking_over import Parts
    from relume.serving.plane import ServingPlane

log = logging.getLogger(__name__)

GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class PlaneSettings:
    """Where and how a plane runs; port 0 is a free one.

    `broker_max_bytes` bounds the log of each Broker (None: the disk does), `fsync` says when an
    accepted event is on the disk itself, `allowed_origins` are those of pages in a browser that may
    call every path of both ports (`*` is any). `strict_events` refuses attributes that are not
    encoded. `usage_broker` (`NAMESPACE/NAME`) gets an event for each settled job that says what it
    has cost. `memory_bytes` bounds what predictors, functions and templates hold together
    (None: nothing does), and a service waits `memory_wait_s` before a busy one makes room for it.
    `show_prompts` lets the page at `/` show the data of events.
    `llm_d` is the folder of the endpoints for llm-d's router (None: there is no router).
    """

    state: Path
    port: int = DEFAULT_HTTP_PORT
    broker_port: int = DEFAULT_BROKER_PORT
    template: bool = True
    grace_s: float = GRACE_S
    broker_max_bytes: int | None = None
    fsync: Fsync = "interval"
    allowed_origins: tuple[str, ...] = ()
    strict_events: bool = False
    usage_broker: str | None = None
    memory_bytes: int | None = None
    memory_wait_s: float = MEMORY_WAIT_S
    show_prompts: bool = False
    llm_d: Path | None = None


class LocalPlane:
    """One plan on this machine, between the start and the end of `running`."""

    def __init__(
        self,
        plan: Plan,
        settings: PlaneSettings,
        store: ModelStore,
        read: Callable[[], Plan] | None = None,
    ) -> None:
        """read: reads the files of `plan` again, where there are some."""
        self.plan = plan
        self._read = read
        self._reloading = asyncio.Lock()
        self.grace = Grace(settings.grace_s)
        self.http = ""
        self.broker = ""
        self._settings = settings
        self._store = store
        self._folder = StateFolder(settings.state)
        self._observer = Observer()
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._template: Template | None = None
        self._engines: ModelTemplates | None = None
        self._launcher: EveryLauncher | None = None
        self._serving: ServingPlane | None = None
        self._eventing: EventingPlane | None = None
        self._jobs: JobsPlane | None = None
        self._parts: Parts | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["LocalPlane"]:
        """Serve for as long as the block runs; drain within the grace when it ends.

        Raises PortTaken, StateInUse, and what a part could not start for. Nothing is left running,
        however the block ends.
        """
        settings = self._settings
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._folder.held())
            http = stack.enter_context(listen(settings.port, "--port"))
            broker = stack.enter_context(listen(settings.broker_port, "--broker-port"))
            self.http, self.broker = url_of(http), url_of(broker)
            logs = self._folder.logs
            sockets = stack.enter_context(self._folder.sockets())
            group = await stack.enter_async_context(asyncio.TaskGroup())
            importing = group.create_task(asyncio.to_thread(_import_the_servers))
            answers = asyncio.Event()
            importing_more = group.create_task(import_brokers_after(importing, answers))
            nats = await stack.enter_async_context(NatsServer(settings.state, fsync=settings.fsync))
            await importing
            if settings.template:
                self._template = await stack.enter_async_context(
                    Template(sockets / "template.sock", logs / "template.log")
                )
            functions = await self._functions(stack, nats)
            front = await self._start_serving(stack, group, http, functions)
            answers.set()
            await importing_more
            stack.push_async_callback(self._jobs_are_drained)
            await self._start_eventing(stack, group, broker, nats)
            await self._start_jobs(stack, group, front, nats)
            stack.enter_context(self._folder.published(self._plane_file()))
            yield self

    async def _functions(
        self, stack: contextlib.AsyncExitStack, nats: NatsServer
    ) -> FunctionLauncher:
        """What starts functions, whose environments are made from now on."""
        root = self._store.root.with_name("functions")
        environments = await stack.enter_async_context(
            Environments(root, lambda line: log.warning("%s", line))
        )
        mounts = empty_folder(self._folder.mounts)
        stack.callback(shutil.rmtree, mounts, ignore_errors=True)
        bound = sink_environment(self.plan, self.destinations.resolve)
        launcher = FunctionLauncher(self.plan, environments, mounts, nats.url, bound)
        launcher.prepare(self.plan.functions)
        stack.callback(launcher.close)
        return launcher

    async def _start_models(self, stack: contextlib.AsyncExitStack) -> LocalLauncher:
        """What starts the predictors of models."""
        launcher: Launcher = FreshLauncher()
        if self._template is not None:
            launcher = TemplateLauncher(self._template)
            sockets = self._template.socket.parent
            self._engines = await stack.enter_async_context(
                ModelTemplates(self._template, launcher, sockets, self._folder.logs)
            )
        files = stack.enter_context(self._folder.private("files"))
        models = LocalLauncher(self._store, launcher, files, self._engines)
        models.keep(models.commands_to_keep(self.plan.services))
        return models

    async def _start_serving(
        self,
        stack: contextlib.AsyncExitStack,
        group: asyncio.TaskGroup,
        listening: socket.socket,
        functions: FunctionLauncher,
    ) -> "JobsFront":
        from relume.eventing.jobs.front import JobsFront
        from relume.plane.control import Control
        from relume.plane.known_names import KnownNames
        from relume.plane.llm_d import RouterFiles
        from relume.plane.local_page import local_page
        from relume.plane.server import HttpServer
        from relume.serving.cross_origin import CrossOrigin
        from relume.serving.plane import ServingPlane
        from relume.serving.room import Rules
        from relume.serving.settings import ServingSettings
        from relume.web.bodies import DecodedBodies

        models = await self._start_models(stack)
        self._launcher = EveryLauncher(
            models, functions, self._store, self._template, self._engines
        )
        self._launcher.expect(self.plan.services)
        serving = ServingPlane(
            (*self.plan.services, *self.plan.functions),
            self._launcher,
            log_dir=self._folder.logs,
            base_url=self.http,
            settings=ServingSettings(
                memory_bytes=self._settings.memory_bytes,
                memory=Rules.for_wait(self._settings.memory_wait_s),
            ),
        )
        await serving.start()
        self._serving = serving
        group.create_task(serving.wait())  # if it fails, the plane ends and says why
        control = Control(
            status=self.status,
            cold_starts=serving.coldstarts,
            observer=self._observer,
            dead_letters=lambda: self._eventing.dead_letters if self._eventing else None,
            recall=self._recall,
            warm=serving.warm,
            reload=None if self._read is None else self._reload,
        )
        front = JobsFront(serving.app)
        page, feed = local_page(self, serving, self._observer, self._settings.show_prompts)
        watching = group.create_task(feed.run(), name="page")
        inside = page.in_front_of(control.in_front_of(front))
        app = DecodedBodies(KnownNames(inside, self._settings.allowed_origins))
        allowing = self._allowing = CrossOrigin(
            app, (*self.plan.services, *self.plan.functions), self._settings.allowed_origins
        )
        server = HttpServer(allowing, listening)
        server.start(group)

        async def stop() -> None:
            # At once: the server waits for requests that the serving plane holds and now lets go.
            control.close()
            page.close()
            watching.cancel()
            await server.drain(self.grace, lambda: serving.stop(self.grace.left()))

        endpoints = RouterFiles(self._settings.llm_d, serving, group, self.grace)
        stack.push_async_callback(endpoints.finished)
        stack.push_async_callback(stop)
        stack.push_async_callback(endpoints.close)
        await endpoints.open()
        return front

    async def _start_eventing(
        self,
        stack: contextlib.AsyncExitStack,
        group: asyncio.TaskGroup,
        listening: socket.socket,
        nats: NatsServer,
    ) -> None:
        from relume.eventing.plane import EventingPlane
        from relume.eventing.registry.documents import Catalogue
        from relume.plane.server import HttpServer
        from relume.serving.cross_origin import CrossOrigin
        from relume.web.bodies import DecodedBodies, as_at_broker

        eventing = EventingPlane(
            self.plan,
            nats,
            self.destinations.resolve,
            settings=EventingSettings(
                max_log_bytes=self._settings.broker_max_bytes,
                strict_events=self._settings.strict_events,
            ),
            observer=self._observer,
            concurrency=SubscriberCapacity(self.plan).of,
            secret=self._folder.secret(),
        )
        await eventing.start()
        self._eventing = eventing
        group.create_task(eventing.wait())  # if it fails, the plane ends and says why
        app = DecodedBodies(Catalogue(eventing.app), refusal=as_at_broker)
        allowing = CrossOrigin(app, (), self._settings.allowed_origins)
        server = HttpServer(allowing, listening, websockets=False)
        server.start(group)

        async def stop() -> None:
            # At once: the server waits for requests that wait for an event's answer.
            eventing.app.close()
            await server.drain(self.grace)
            await self.grace.bound(eventing.stop(self.grace.left()))

        stack.push_async_callback(stop)

    async def _start_jobs(
        self,
        stack: contextlib.AsyncExitStack,
        group: asyncio.TaskGroup,
        front: "JobsFront",
        nats: NatsServer,
    ) -> None:
        from relume.eventing.jobs.outbox import OUTBOX
        from relume.plane.local_jobs import local_jobs
        from relume.plane.taking_over import Parts

        assert self._serving is not None and self._eventing is not None
        local = local_jobs(
            self.plan,
            self.destinations,
            self.http,
            nats,
            self._serving,
            self._eventing,
            front,
            self._observer,
            self._settings.usage_broker,
        )
        jobs = local.plane
        await jobs.start()
        self._eventing.show_letters(OUTBOX, of="jobs")
        self._jobs = jobs
        assert self._launcher is not None
        parts = self._launcher, self._serving, self._eventing, self._allowing, local
        self._parts = Parts(*parts)
        group.create_task(jobs.wait())  # if it fails, the plane ends and says why

        def drain() -> None:
            # Not waited for here: events drain in the same time.
            work = self.grace.bound(jobs.stop(self.grace.left()))
            self._draining = asyncio.create_task(work, name="jobs-drain")

        stack.callback(drain)

    async def _jobs_are_drained(self) -> None:
        if self._draining is not None:
            await self._draining

    async def _reload(self) -> Json:
        """Take over what the files say now; where one is wrong, nothing changes.

        The disk is looked at in threads. Raises InvalidInput for a file, PlaneStopping, and
        StoreUnavailable.
        """
        from relume.plane.taking_over import PlaneStarting

        assert self._read is not None
        async with self._reloading:
            budget = self._settings.memory_bytes
            read = await asyncio.to_thread(
                checked, self._read, self.plan, self._store, budget, self._launcher
            )
            found = reload(self.plan, read)
            if self._parts is None:
                raise PlaneStarting("the plane is still starting: try again")
            to = Destinations(self.http, self.broker, found.plan)
            put_away = await self._parts.take_over(found.plan, to, self._settings.usage_broker)
            self.plan = found.plan
            await put_away()
        return found.to_json()

    async def _recall(self, broker: "BrokerKey", key: str) -> "Envelope | None":
        return await self._eventing.recall(broker, key) if self._eventing else None

    @property
    def ingress(self) -> "RequestReplies | None":
        """Where the Brokers take events; None while they take none."""
        return self._eventing.app if self._eventing else None

    @property
    def destinations(self) -> Destinations:
        """Where what the files name takes requests and events."""
        return Destinations(self.http, self.broker, self.plan)

    def status(self) -> Json:
        """What `GET /relume/status` says; JSON types only."""
        return {
            **asdict(self._plane_file()),
            "state_dir": str(self._settings.state),
            "serving": self._serving.status() if self._serving else {"services": []},
            "eventing": self._eventing.status() if self._eventing else {},
            "template": template_status(self._template, self._engines),
            "jobs": self._jobs.status() if self._jobs else {},
        }

    def _plane_file(self) -> PlaneFile:
        return PlaneFile(os.getpid(), self.http, self.broker, self._started_at, version())
