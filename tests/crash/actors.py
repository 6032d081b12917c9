"""What runs in the processes of a trial; never imported by the tests' own process.

Importing this module puts traps into the eventing code that is imported from then on.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from tests.crash.await_points import Points
from tests.crash.processes import PlaneArguments

POINTS = Points()
POINTS.install()

import aiohttp.web  # noqa: E402

from relume.cloudevents.event import CloudEvent  # noqa: E402
from relume.cloudevents.http import Mode, decode, encode  # noqa: E402
from relume.config import (  # noqa: E402
    Branch,
    Broker,
    Delivery,
    Destination,
    Exact,
    ParallelFlow,
    PingSource,
    Plan,
    Ref,
    RequestReply,
    SequenceFlow,
    Step,
    Trigger,
)
from relume.eventing.dead_letters import NoSuchDeadLetter  # noqa: E402
from relume.eventing.event_log import BrokerKey, StoreUnavailable  # noqa: E402
from relume.eventing.jetstream.log import log as _jetstream  # noqa: E402, F401 - imported before the fork
from relume.eventing.jetstream.server import NatsServer  # noqa: E402
from relume.eventing.plane import EventingPlane  # noqa: E402
from relume.eventing.settings import EventingSettings  # noqa: E402
from relume.plane.server import HttpServer  # noqa: E402
from relume.plane.subscribers import Destinations  # noqa: E402

_PR_SET_PDEATHSIG = 1
# Short, because a killed process leaves its leases behind and the next one waits for their end.
SETTINGS = EventingSettings(lease_s=0.4, heartbeat_s=0.1, sweep_s=0.2, duplicate_window_s=60.0)
GRACE_S = 0.2


def _plan(url: str, broker_class: str | None) -> Plan:
    """One Broker; a Trigger for each way that a delivery can end.

    Kafka's are ordered, which only that Broker does by partitions.
    """

    def trigger(type_: str, path: str, sink: str | None = None) -> Trigger:
        dead_letters = Destination(uri=f"{url}{sink}") if sink else None
        return Trigger(
            "default",
            type_,
            "b",
            Destination(uri=f"{url}{path}"),
            filters=(Exact({"type": type_}),),
            # Long enough for a subscriber to come back; nats waits only where both are said.
            delivery=Delivery(10, "exponential", 0.02, dead_letter_sink=dead_letters),
            ordered=broker_class == "Kafka",
        )

    triggers = (
        trigger("ask", "/answer"),
        trigger("reply", "/told"),
        trigger("flaky", "/flaky"),
        trigger("slow", "/slow"),
        trigger("sour", "/refuse"),
        trigger("loop", "/again"),
        trigger("bitter", "/refuse", "/sink"),
    )
    return Plan(brokers=(Broker("default", "b", broker_class),), triggers=triggers)


def _with_flows(plan: Plan, url: str) -> Plan:
    """The plan with one of each flow and source; what they answer goes into the Broker.

    The functions give every answer an id of its own, so that an answer that was stored twice would
    be seen twice.
    """
    delivery = Delivery(10, "exponential", 0.02)
    broker = Destination(ref=Ref("Broker", "default", "b", "eventing.knative.dev/v1"))
    half, rest, no = (Destination(uri=f"{url}{path}") for path in ("/half", "/rest", "/told"))
    question = Trigger("default", "question", "b", Destination(uri=f"{url}/question"))
    return replace(
        plan,
        triggers=(
            *plan.triggers,
            replace(question, filters=(Exact({"type": "question"}),), delivery=delivery),
        ),
        sequences=(
            SequenceFlow("default", "s", (Step(half, delivery), Step(rest, delivery)), broker),
        ),
        parallels=(
            ParallelFlow(
                "default",
                "p",
                (Branch(rest, filter=half, delivery=delivery), Branch(rest, filter=no)),
                broker,
                channel_delivery=delivery,
            ),
        ),
        request_replies=(RequestReply("default", "q", "b", timeout_s=1.0, delivery=delivery),),
        ping_sources=(
            PingSource("default", "tick", Destination(uri=f"{url}/pinged"), "* * * * * *"),
        ),
    )


def plane(arguments: PlaneArguments) -> None:
    """The body of a plane's process; ends on SIGTERM, or by its trap."""
    die_with_parent()
    words = os.open(arguments.folder / "plane.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(words, 2)
    asyncio.run(_serve(arguments))
    (arguments.folder / f"reached.{os.getpid()}").write_text(json.dumps(POINTS.reached))


async def _serve(arguments: PlaneArguments) -> None:
    nats = NatsServer(arguments.folder)
    POINTS.set(arguments.trap, lambda: _fire(arguments, nats))
    plan = _plan(arguments.subscriber, arguments.broker_class)
    plane = EventingPlane(
        _with_flows(plan, arguments.subscriber) if arguments.flows else plan,
        nats,
        Destinations("http://none", f"http://127.0.0.1:{arguments.port}").resolve,
        settings=SETTINGS,
        concurrency=lambda _: 2,
        secret=b"the same for each process",
    )
    async with nats:
        await plane.start()
        with socket.create_server(("127.0.0.1", arguments.port)) as listening:
            server = HttpServer(plane.app, listening)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, server.stop, GRACE_S)
            redriving = asyncio.create_task(_redrive_when_asked(plane, arguments.folder))
            await server.serve()
            redriving.cancel()
        await plane.stop(GRACE_S)


async def _redrive_when_asked(plane: EventingPlane, folder: Path) -> None:
    """Send every dead letter through its Trigger again, when there is a file `redrive`."""
    broker = BrokerKey("default", "b")
    while not (folder / "redrive").exists():
        await asyncio.sleep(0.02)
    while not (folder / "redriven").exists():
        with contextlib.suppress(NoSuchDeadLetter, StoreUnavailable):
            async for letter in plane.dead_letters.page(broker, 0, 100):
                await plane.dead_letters.redrive(broker, letter.sequence)
            (folder / "redriven").touch()


def _fire(arguments: PlaneArguments, nats: NatsServer) -> None:
    (arguments.folder / "fired").touch()
    match arguments.victim:
        case "plane":
            os.kill(os.getpid(), signal.SIGKILL)
        case "nats-server":
            if nats.pid is not None:
                os.kill(nats.pid, signal.SIGKILL)
        case "subscriber":
            with contextlib.suppress(ProcessLookupError):
                os.kill(arguments.subscriber_pid, signal.SIGKILL)


def subscriber(folder: Path, port: int) -> None:
    """The body of a subscriber's process; what comes in is written down before it is answered."""
    die_with_parent()
    calls = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    asked: set[str] = set()

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        event = decode(tuple(request.headers.items()), await request.read()).event
        os.write(calls, f"{request.path} {event.id}\n".encode())
        path = request.path
        if path == "/refuse" or (path == "/half" and event.type == "sour"):
            return aiohttp.web.Response(status=400, text="not to my taste")
        if path in ("/flaky", "/sink") and event.id not in asked:
            asked.add(event.id)
            return aiohttp.web.Response(status=503)
        if path in ("/told", "/sink", "/pinged"):
            return aiohttp.web.Response()
        while path == "/slow" and not (folder / "release").exists():
            await asyncio.sleep(0.01)
        headers, body = encode(_reply(path, event), Mode.BINARY)
        return aiohttp.web.Response(headers=dict(headers), body=body)

    async def serve() -> None:
        app = aiohttp.web.Application()
        app.router.add_route("POST", "/{path:.*}", answer)
        runner = aiohttp.web.AppRunner(app, access_log=None)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


def _reply(path: str, event: CloudEvent) -> CloudEvent:
    """What the subscriber answers; /half and /rest name the first event in the subject."""
    reply = {"id": f"re-{event.id}", "source": "/subscriber", "type": "reply"}
    match path:
        case "/again":
            reply["type"] = "loop"
        case "/half":
            reply |= {"id": uuid4().hex, "type": "half", "subject": event.id}
        case "/rest":
            reply["id"] = f"re-{event.attributes['subject']}"
        case "/question":
            reply["replyid"] = str(event.attributes["correlationid"])
    return CloudEvent.create(reply)


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
