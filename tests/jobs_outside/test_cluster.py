"""Two gateways beside three nats-servers: whatever fails, each accepted job settles exactly once.

The gateways are `relume gateway` processes. After each fault the books are checked from outside.
One fault is tried always, the others with `--every-phase` (`make jobs-trial`).
"""

import asyncio
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.closing_lines import say_at_the_end
from tests.jobs_outside.client import Client
from tests.jobs_outside.load import flow, submit_once
from tests.jobs_outside.scene import Scene, scene
from tests.jobs_outside.script import Script

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]
LEASE_S = 10.0
STREAMS = ("relume_work", "relume_jobs", "relume_tokens")
Fault = Callable[[Scene, Client], Awaitable[None]]


async def leader_killed(scene: Scene, _: Client) -> None:
    """The leader of the work, and then that of the records; each comes back with its data."""
    for stream in STREAMS[:2]:
        node = await scene.cluster.leader(stream)
        node.kill()
        await asyncio.sleep(2.0)
        node.start()
        await scene.cluster.in_step(STREAMS)


async def node_stopped(scene: Scene, _: Client) -> None:
    """The leader of the tokens stands still for longer than an election takes, and goes on."""
    node = await scene.cluster.leader("relume_tokens")
    node.send(signal.SIGSTOP)
    await asyncio.sleep(12.0)
    node.send(signal.SIGCONT)
    await scene.cluster.in_step(STREAMS)


async def two_nodes_away(scene: Scene, client: Client) -> None:
    """Without a majority nothing is accepted; with it, everything goes on."""
    for node in scene.cluster.nodes[:2]:
        node.kill()
    await asyncio.sleep(1.0)
    answers = await asyncio.gather(*(submit_once(client, f"away{n}") for n in range(6)))
    assert set(answers) <= {503, None}, answers
    assert 503 in answers
    for node in scene.cluster.nodes[:2]:
        node.start()
    await scene.cluster.ready()


async def disk_full(scene: Scene, _: Client) -> None:
    """The leader of the work cannot write any more; it comes back with room."""
    node = await scene.cluster.leader("relume_work")
    assert node.process is not None
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, unlimited))
    await asyncio.sleep(5.0)
    node.kill()
    node.start()
    await scene.cluster.in_step(STREAMS)


async def zombie(scene: Scene, _: Client) -> None:
    """A gateway stands still past its lease, and wakes when another one has taken over."""
    scene.gateways[0].send(signal.SIGSTOP)
    await asyncio.sleep(LEASE_S + 5.0)
    scene.gateways[0].send(signal.SIGCONT)


async def gateway_killed(scene: Scene, _: Client) -> None:
    """A gateway dies and is started again."""
    await scene.gateways[0].restart()
    await scene.keep_history()


async def everybody_in_turn(scene: Scene, client: Client) -> None:
    """What `make test` has time for: a gateway, the predictor and a leader are killed."""
    await scene.predictor.restart()
    scene.gateways[1].kill()
    node = await scene.cluster.leader("relume_jobs")
    node.kill()
    await asyncio.sleep(1.0)
    node.start()
    scene.gateways[1].start()
    await scene.gateways[1].ready()
    await scene.keep_history()


EVERY: tuple[Fault, ...] = (
    leader_killed,
    node_stopped,
    two_nodes_away,
    disk_full,
    zombie,
    gateway_killed,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One after the other with --every-phase; else all of them in one test."""
    if "fault" in metafunc.fixturenames:
        every = metafunc.config.getoption("every_phase")
        faults = EVERY if every else (everybody_in_turn,)
        metafunc.parametrize("fault", faults, ids=lambda fault: fault.__name__)


async def test_a_fault_of_the_cluster(
    fault: Fault, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with scene(tmp_path) as made, made.client() as client:
        over = asyncio.Event()
        await asyncio.gather(*(client.submit(Script(f"long{n}", 150, 100)) for n in range(6)))
        flowing = asyncio.create_task(flow(client, over))
        await asyncio.sleep(1.0)
        await fault(made, client)
        over.set()
        await flowing
        books = await made.rest(client)
        words = "\n".join(each.last_words() for each in made.gateways)
    say_at_the_end(request.node, f"cluster, {fault.__name__}: {books}")
    assert books.at_rest, f"{books}\n{words}"
    assert books.sound, f"{books}\n{words}"
