"""What runs in the processes of a trial of jobs; never imported by the tests' own process.

The gateway is the jobs plane as `relume gateway` composes it, beside a nats-server that belongs to
the trial. Its clocks are short, because a killed process leaves its leases behind.
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
from datetime import datetime, timedelta
from pathlib import Path

from relume.base.clock import SystemClock
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.plane import JobsPlane
from relume.plane.server import HttpServer
from tests.crash.actors import POINTS, die_with_parent  # installs the traps first
from tests.crash.job_plane import jobs_plane
from tests.crash.job_processes import GatewayArguments
from tests.jobs_outside import sink as sink_program
from tests.jobs_outside import stub_predictor as stub_program

GRACE_S = 0.2
JUMP = timedelta(minutes=10)


class JumpingClock(SystemClock):
    """A clock whose time of day can be set; what it measures goes on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


def gateway(arguments: GatewayArguments) -> None:
    """The body of a gateway's process; ends on SIGTERM, or by its trap."""
    die_with_parent()
    words = os.open(arguments.folder / "gateway.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(words, 2)
    asyncio.run(_serve(arguments))
    (arguments.folder / f"reached.{os.getpid()}").write_text(json.dumps(POINTS.reached))


async def _serve(arguments: GatewayArguments) -> None:
    clock = JumpingClock()
    POINTS.set(arguments.trap, lambda: _fire(arguments, clock))
    plane, app = jobs_plane(arguments, clock)
    await _started(plane)
    with socket.create_server(("127.0.0.1", arguments.port)) as listening:
        server = HttpServer(app, listening)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.stop, GRACE_S)
        await server.serve()
    await plane.stop(GRACE_S)


async def _started(plane: JobsPlane) -> None:
    """Start it as soon as nats-server is there, as a gateway does that is started with it."""
    while True:
        try:
            return await plane.start()
        except StoreUnavailable:
            await asyncio.sleep(0.05)


def _fire(arguments: GatewayArguments, clock: JumpingClock) -> None:
    """Do the harm, and say so; what has to be mended is mended by the trial."""
    folder = arguments.folder
    (folder / "fired").write_text(arguments.victim)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        match arguments.victim:
            case "gateway":
                os.kill(os.getpid(), signal.SIGKILL)
            case "predictor":
                os.kill(_pid(folder, "predictor"), signal.SIGKILL)
            case "nats-server":
                os.kill(_pid(folder, "nats"), signal.SIGKILL)
            case "partition":
                os.kill(_pid(folder, "nats"), signal.SIGSTOP)
            case "disk":
                unlimited = resource.RLIM_INFINITY
                limit = resource.RLIMIT_FSIZE
                resource.prlimit(_pid(folder, "nats"), limit, (0, unlimited))
            case "clock":
                clock.ahead += JUMP
            case "clock back":
                clock.ahead -= JUMP


def _pid(folder: Path, name: str) -> int:
    return int((folder / f"{name}.pid").read_text())


def predictor(folder: Path, port: int) -> None:
    """The body of the predictor's process."""
    die_with_parent()
    asyncio.run(stub_program.serve(port, folder / "predictor.jsonl"))


def sink(folder: Path, port: int) -> None:
    """The body of the sink's process."""
    die_with_parent()
    asyncio.run(sink_program.serve(port, folder / "events.jsonl"))
