"""An eventing plane on a virtual clock, with subscribers that are real HTTP servers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx
import nats
from aiohttp import web

from relume.base.clock import Clock
from relume.base.testing import VirtualClock
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, decode, encode
from relume.config import Broker, Delivery, Destination, Plan, Trigger
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.observer import Observer, Record, Subscription
from relume.eventing.plane import ClosableLog, EventingPlane
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog

BROKER = BrokerKey("default", "b")


def event(id_: str = "1", data: bytes | None = None, **attributes: object) -> CloudEvent:
    return CloudEvent.create({"id": id_, "source": "/test", "type": "ask", **attributes}, data)


def answer(response: CloudEvent | None = None, status: int = 200) -> web.Response:
    """An HTTP response, empty or with an event in binary mode."""
    if response is None:
        return web.Response(status=status)
    headers, body = encode(response, Mode.BINARY)
    return web.Response(status=status, headers=dict(headers), body=body)


Handler = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass
class Call:
    """One delivery as the subscriber saw it."""

    headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def event(self) -> CloudEvent:
        return decode(self.headers, self.body).event

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


def reply_to(request: CloudEvent) -> web.Response:
    return answer(
        CloudEvent.create({"id": f"re-{request.id}", "source": "/subscriber", "type": "reply"})
    )


async def replies(call: Call) -> web.StreamResponse:
    return reply_to(call.event)


class Subscriber:
    """A server on loopback that answers by its script, then for ever as its last line says."""

    def __init__(self, *script: web.Response | Handler) -> None:
        self.script = list(script) or [answer()]
        self.calls: list[Call] = []
        self.running = 0
        self.most_at_once = 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> "Subscriber":
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        # A handler must see that its client went away.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def ids(self) -> list[str]:
        return [call.event.id for call in self.calls]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = Call(tuple(request.headers.items()), await request.read())
        self.calls.append(call)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, web.Response):
            return web.Response(status=step.status, headers=step.headers, body=step.body)
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            return await step(call)
        finally:
            self.running -= 1


class Gate:
    """A handler that answers when it is told to: as `then` does, or with an empty answer."""

    def __init__(self, then: Handler | None = None, *, status: int = 200) -> None:
        self._then = then
        self._status = status
        self.open = asyncio.Event()
        self.reached = asyncio.Semaphore(0)
        self.abandoned = 0

    async def __call__(self, call: Call) -> web.StreamResponse:
        self.reached.release()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        return answer(status=self._status) if self._then is None else await self._then(call)

    async def reached_by(self, count: int) -> None:
        async with asyncio.timeout(60):
            for _ in range(count):
                await self.reached.acquire()


def trigger(name: str, subscriber: str, **spec: object) -> Trigger:
    return Trigger("default", name, "b", Destination(uri=subscriber), **spec)  # type: ignore[arg-type]


def resolve(destination: Destination, namespace: str) -> str:
    if destination.ref is not None:
        return f"http://broker/{destination.ref.namespace}/{destination.ref.name}"
    assert destination.uri is not None
    return destination.uri


@dataclass
class BrokerStage:
    """A started plane. `log` is shared by the planes of one test, as a state folder would be."""

    triggers: Sequence[Trigger]
    delivery: Delivery | None = None
    settings: EventingSettings = field(default_factory=EventingSettings)
    clock: Clock = field(default_factory=VirtualClock)
    log: ClosableLog | None = None
    concurrency: Callable[[Trigger], int | None] = lambda _: None
    observer: Observer = field(default_factory=Observer)
    broker_class: str | None = None
    more_brokers: Sequence[str] = ()
    resolve: Callable[[Destination, str], str] = resolve
    more: Plan = field(default_factory=Plan)  # flows and sources
    secret: bytes | None = None

    async def __aenter__(self) -> "BrokerStage":
        self.log = self.log or MemoryLog(self.settings, self.clock)
        self.plan = replace(
            self.more,
            brokers=(
                Broker("default", "b", self.broker_class, self.delivery),
                *(Broker("default", name) for name in self.more_brokers),
            ),
            triggers=tuple(self.triggers),
        )
        self.plane = EventingPlane(
            self.plan,
            None,
            self.resolve,
            settings=self.settings,
            clock=self.clock,
            observer=self.observer,
            concurrency=self.concurrency,
            secret=self.secret,
            open_log=self._same_log,
        )
        self.records: Subscription = self.observer.subscribe()
        self.seen: list[Record] = []
        await self.plane.start()
        return self

    async def change(self, plan: Plan) -> None:
        """Let the plane run another plan, in the steps of `relume reload`."""
        coming = self.plane.resolve(plan, self.resolve, self.concurrency)
        await self.plane.prepare(coming)
        self.plane.take(coming)
        self.plan = plan
        await self.plane.forget()

    def accepted(self) -> int:
        """How many events the Broker has taken since its start, replies among them."""
        brokers = self.plane.status()["brokers"]
        assert isinstance(brokers, list)
        return sum(each["accepted"] for each in brokers)

    async def __aexit__(self, *_: object) -> None:
        await self.plane.stop(0)

    async def _same_log(self, settings: EventingSettings, clock: Clock) -> ClosableLog:
        assert self.log is not None
        return self.log

    @property
    def virtual(self) -> VirtualClock:
        assert isinstance(self.clock, VirtualClock)
        return self.clock

    @property
    def memory(self) -> MemoryLog:
        assert isinstance(self.log, MemoryLog)
        return self.log

    async def buried(self) -> list[Envelope]:
        """What became a dead letter that no sink took, oldest first."""
        return [each.envelope async for each in self.memory.dead_letters.letters(BROKER)]

    async def post(
        self,
        event: CloudEvent,
        mode: Mode = Mode.BINARY,
        path: str = "/default/b",
        **headers: str,
    ) -> httpx.Response:
        encoded, body = encode(event, mode)
        extra = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await self.request("POST", path, [*encoded, *extra], body)

    async def request(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.plane.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://broker") as client:
            return await client.request(method, path, headers=list(headers), content=body)

    async def until(self, stage: str, count: int = 1) -> list[Record]:
        """The next `count` records of this stage, as they happen."""
        found: list[Record] = []
        async with asyncio.timeout(60):
            async for record in self.records:
                self.seen.append(record)
                if record.stage == stage:
                    found.append(record)
                if len(found) == count:
                    return found
        raise AssertionError(f"no {stage}")

    def status(self, name: str) -> dict[str, object]:
        triggers = self.plane.status()["triggers"]
        assert isinstance(triggers, list)
        return next(each for each in triggers if each["name"] == name)


async def stored(server: NatsServer) -> int:
    """How many events the Broker ever took, replies included."""
    client = await nats.connect(server.url)
    try:
        return (await client.jetstream().stream_info("broker_default_b")).state.last_seq
    finally:
        await client.close()
