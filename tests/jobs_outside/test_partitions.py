"""Gateways and nats-servers that do not reach each other: each accepted job settles exactly once.

The ways between them are links of the test (`links.py`): cut with a reset, stalled without one, in
both directions or in one, and whole again. What was held back arrives late then, so a gateway that
had lost its leases is heard once more. The faults of a group follow each other while jobs come in,
and the books are checked at the end. It takes minutes: `--every-phase` (`make jobs-trial`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.closing_lines import say_at_the_end
from tests.jobs_outside.client import Client
from tests.jobs_outside.links import BOTH, Direction, Link
from tests.jobs_outside.load import flow, submit_once
from tests.jobs_outside.nats_cluster import Node
from tests.jobs_outside.scene import Scene, scene
from tests.jobs_outside.script import Script
from tests.jobs_outside.test_cluster import LEASE_S, STREAMS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(400)]
LASTS_S = LEASE_S + 5.0
# A gateway leaves a server that has not answered its pings; this is much longer.
SILENT_S = 30.0
HELD: Mapping[str, Sequence[Direction]] = {
    "unheard": ("there",),
    "deaf": ("back",),
    "stalled": BOTH,
}
Fault = Callable[[Scene, Client], Awaitable[None]]


def _ways_of_gateway(made: Scene, number: int) -> Sequence[Link]:
    return [link for (gateway, _), link in made.links.items() if gateway == number]


async def _refuses(made: Scene, client: Client, name: str) -> None:
    """The first gateway, which cannot store anything, accepts nothing."""
    answer = await submit_once(client, name, made.gateways[0].url)
    assert answer in (503, None), answer


async def gateway_cut_off(made: Scene, client: Client) -> None:
    """A gateway loses every nats-server at once, and knows it."""
    ways = _ways_of_gateway(made, 0)
    await asyncio.gather(*(link.cut() for link in ways))
    await _refuses(made, client, "cut-off")
    await asyncio.sleep(LASTS_S)
    await asyncio.gather(*(link.heal() for link in ways))


async def gateway_unheard(made: Scene, client: Client) -> None:
    """What a gateway sends arrives when its leases are over and others have its jobs."""
    await _gateway_held(made, client, "unheard", LASTS_S)


async def gateway_deaf(made: Scene, client: Client) -> None:
    """A gateway is heard, and hears of nothing that is answered."""
    await _gateway_held(made, client, "deaf", LASTS_S)


async def gateway_stalled(made: Scene, client: Client) -> None:
    """Neither is heard of the other, for so long that the gateway gives the connection up."""
    await _gateway_held(made, client, "stalled", LASTS_S)


async def _gateway_held(made: Scene, client: Client, how: str, seconds: float) -> None:
    ways = _ways_of_gateway(made, 0)
    for link in ways:
        link.stall(*HELD[how])
    await _refuses(made, client, how)
    await asyncio.sleep(seconds)
    await asyncio.gather(*(link.heal() for link in ways))


async def one_way_of_a_gateway(made: Scene, _: Client) -> None:
    """The one node to which a gateway is connected falls silent for it; it goes to another one."""
    link = next(link for link in _ways_of_gateway(made, 0) if link.connections)
    link.stall(*BOTH)
    async with asyncio.timeout(SILENT_S):
        while not any(way.connections for way in _ways_of_gateway(made, 0) if way is not link):
            await asyncio.sleep(0.1)
    await link.heal()


async def _leader_of_all(made: Scene) -> Node:
    """The node to which the first gateway is connected leads all streams."""
    reached = (
        node for (gateway, node), link in made.links.items() if not gateway and link.connections
    )
    node = made.cluster.nodes[next(reached)]
    await made.cluster.lead(STREAMS, node)
    return node


async def leader_cut_off(made: Scene, _: Client) -> None:
    """The leader of all streams loses the two others, and knows it."""
    node = await _leader_of_all(made)
    ways = [link for pair, link in made.cluster.links.items() if node.number in pair]
    await asyncio.gather(*(link.cut() for link in ways))
    await asyncio.sleep(LASTS_S)
    await asyncio.gather(*(link.heal() for link in ways))


async def leader_unheard(made: Scene, _: Client) -> None:
    """The others elect a new leader, and the old one hears it."""
    await _leader_held(made, "unheard")


async def leader_deaf(made: Scene, _: Client) -> None:
    """The leader is heard, and hears nobody."""
    await _leader_held(made, "deaf")


async def leader_stalled(made: Scene, _: Client) -> None:
    """The leader is alone without a sign of it; what it had sent arrives late."""
    await _leader_held(made, "stalled")


async def _leader_held(made: Scene, how: str) -> None:
    node = await _leader_of_all(made)
    opposite: Mapping[Direction, Direction] = {"there": "back", "back": "there"}
    for (begins, ends), link in made.cluster.links.items():
        if begins == node.number:
            link.stall(*HELD[how])
        elif ends == node.number:
            link.stall(*(opposite[each] for each in HELD[how]))
    await asyncio.sleep(LASTS_S)
    await asyncio.gather(*(link.heal() for link in made.cluster.links.values()))


GROUPS: Mapping[str, Sequence[Fault]] = {
    "gateway": (
        gateway_cut_off,
        gateway_unheard,
        gateway_deaf,
        gateway_stalled,
        one_way_of_a_gateway,
    ),
    "leader": (leader_cut_off, leader_unheard, leader_deaf, leader_stalled),
}


@pytest.mark.every_phase
@pytest.mark.parametrize("group", GROUPS)
async def test_a_partition(group: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    async with scene(tmp_path, linked=True) as made, made.client() as client:
        over = asyncio.Event()
        flowing = asyncio.create_task(flow(client, over))
        for fault in GROUPS[group]:
            # Jobs that run when it begins, and when it is over.
            name = fault.__name__
            await asyncio.gather(*(client.submit(Script(f"{name}{n}", 150, 100)) for n in range(6)))
            await asyncio.sleep(1.0)
            await fault(made, client)
            await made.cluster.in_step(STREAMS)
        over.set()
        await flowing
        books = await made.rest(client)
        words = "\n".join(each.last_words() for each in made.gateways)
    faults = ", ".join(each.__name__ for each in GROUPS[group])
    say_at_the_end(request.node, f"partitions, {faults}: {books}")
    assert books.at_rest, f"{books}\n{words}"
    assert books.sound, f"{books}\n{words}"
