"""The processes of a trial of jobs, forked from a server that has everything imported."""

from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal, get_args

from tests.crash.await_points import Trap
from tests.crash.processes import context

JobVictim = Literal[
    "gateway", "predictor", "nats-server", "partition", "disk", "clock", "clock back"
]
JOB_VICTIMS: tuple[JobVictim, ...] = get_args(JobVictim)


@dataclass(frozen=True, slots=True)
class GatewayArguments:
    """What a gateway is told: where everybody is, and what harms whom."""

    folder: Path
    port: int
    nats: str
    predictor: str
    sink: str
    trap: Trap | None = None
    victim: JobVictim = "gateway"


def start_gateway(arguments: GatewayArguments) -> ForkServerProcess:
    return _started(_gateway, arguments)


def start_predictor(folder: Path, port: int) -> ForkServerProcess:
    return _started(_predictor, folder, port)


def start_sink(folder: Path, port: int) -> ForkServerProcess:
    return _started(_sink, folder, port)


def _started(body: object, *arguments: object) -> ForkServerProcess:
    process = context.Process(target=body, args=arguments, daemon=True)
    process.start()
    return process


def _gateway(arguments: GatewayArguments) -> None:
    from tests.crash.job_actors import gateway

    gateway(arguments)


def _predictor(folder: Path, port: int) -> None:
    from tests.crash.job_actors import predictor

    predictor(folder, port)


def _sink(folder: Path, port: int) -> None:
    from tests.crash.job_actors import sink

    sink(folder, port)
