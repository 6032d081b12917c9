"""The processes of a trial: the eventing plane with its nats-server, and a subscriber.

Both are forked from a server that has `actors` imported already, so that one costs milliseconds.
"""

import multiprocessing
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

from tests.crash.await_points import Trap

Victim = Literal["plane", "nats-server", "subscriber"]

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.crash.actors", "tests.crash.job_actors"])


@dataclass(frozen=True, slots=True)
class PlaneArguments:
    """What a plane is told: where, and what kills whom."""

    folder: Path
    port: int
    subscriber: str
    subscriber_pid: int
    trap: Trap | None = None
    victim: Victim = "plane"
    broker_class: str | None = None
    flows: bool = False


def start_plane(arguments: PlaneArguments) -> ForkServerProcess:
    process = context.Process(target=_plane, args=(arguments,), daemon=True)
    process.start()
    return process


def start_subscriber(folder: Path, port: int) -> ForkServerProcess:
    process = context.Process(target=_subscriber, args=(folder, port), daemon=True)
    process.start()
    return process


def _plane(arguments: PlaneArguments) -> None:
    from tests.crash.actors import plane

    plane(arguments)


def _subscriber(folder: Path, port: int) -> None:
    from tests.crash.actors import subscriber

    subscriber(folder, port)
