"""What the benchmark of the event path joins, counts and compares."""

import asyncio
import contextlib
import importlib
import importlib.util
import math
from array import array
from collections.abc import Mapping
from pathlib import Path

import pytest
from event_latency import Latency, latency
from event_load import Load, OpenLoad, produce, produce_open, requests
from event_pace import paced
from event_ratios import Beside, Target
from event_sink import Count
from event_stages import places, shares, stage_of
from event_stands import Closed, Http, Open
from event_turns import HALF, Raw, Turn
from event_where import WAITS, joined
from processes import MeasurementFailed

LOADTESTS = Path(__file__).resolve().parents[2] / "loadtests"
SITE = "/env/site-packages/"
OURS = "/checkout/eventing/relume/eventing/"


def moments(*values: float) -> "array[float]":
    return array("d", values)


def turn(speed: float) -> Turn:
    """A turn on a machine of that speed."""
    closed = Closed(1000 * speed, 800 * speed, 400 / speed, 50, Latency(10 / speed, 20 / speed))
    rates = {rate: Open(Latency(2 / speed, 8 / speed), 1.0) for rate in ("200/s", "1,000/s", HALF)}
    return Turn(closed, closed, rates, Http(4000 * speed, 200 / speed, Latency(1, 2)))


def raw(speed: float) -> Raw:
    rates = {rate: Latency(1 / speed, 2 / speed) for rate in ("200/s", "1,000/s", HALF)}
    return Raw(5000 * speed, 8000 * speed, rates)


def test_ratios_are_taken_inside_a_turn() -> None:
    # The machine was four times as slow in the second turn, and the new side always half as fast.
    found = Beside((turn(1.0), turn(0.25)), (turn(2.0), turn(0.5)), (raw(1.0), raw(0.25)))
    ratios = {each.name: each.ratios for each in found.targets()}
    assert ratios["CPU of an event, plane, new/old"] == (2.0, 2.0)
    assert ratios["CPU of an event, plane, of its HTTP ceiling"] == (2.0, 2.0)
    assert ratios["accepted, of raw JetStream"] == (0.2, 0.2)
    assert ratios["delivered, of raw JetStream"] == (0.1, 0.1)
    assert ratios[f"p99 at {HALF}, of raw JetStream"] == (4.0, 4.0)
    missed = {each.name for each in found.targets() if each.holds is False}
    assert missed == {
        "delivered, of raw JetStream",
        "CPU of an event, plane, new/old",
        "p50 with 16 producers, new/old",
        "p99 with 16 producers, new/old",
    }
    alone = Beside(found.new, (), found.raw)
    assert len(alone.targets()) == 5
    assert [len(row) for _, rows in (alone.sides(), found.sides()) for row in rows[:1]] == [2, 4]


@pytest.mark.parametrize(
    ("target", "holds"),
    [
        (Target("", (0.1, 0.16, 0.9), least=0.16), True),
        (Target("", (0.1, 0.15, 0.9), least=0.16), False),
        (Target("", (0.1, 2.0, 9.0), most=2.0), True),
        (Target("", (0.1, 2.1, 9.0), most=2.0), False),
    ],
)
def test_the_median_of_the_turns_is_held_to_the_target(target: Target, holds: bool) -> None:
    assert target.holds is holds


def test_an_event_that_did_not_arrive_has_no_latency() -> None:
    assert latency(moments(1.0, 2.0), moments(1.5, 2.25)) == Latency(500.0, 500.0)
    with pytest.raises(MeasurementFailed, match="1 of 2 events"):
        latency(moments(1.0, 2.0), moments(1.5, 0.0))


def test_the_subscriber_keeps_the_first_arrival_of_a_number() -> None:
    count = Count()
    count.take(70_000)
    first = moments_of(count.answer("/arrivals/69999/3"))
    count.take(70_000)
    assert moments_of(count.answer("/arrivals/69999/3")) == first
    assert [bool(each) for each in first] == [False, True, False]
    assert list(moments_of(count.answer("/arrivals/900000/2"))) == [0.0, 0.0]


def moments_of(body: bytes) -> "array[float]":
    return array("d", body)


async def test_an_open_loop_posts_all_that_comes_due() -> None:
    due: list[int] = []
    await paced(1e6, 1e-5, due.append)
    assert due == list(range(10))


async def test_what_is_due_while_no_connection_is_free_is_posted_later() -> None:
    bodies = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal bodies
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"}"):
                bodies += 1
                writer.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/default/bench"
    load = OpenLoad(first=7, make=requests(url, 1))
    told = await produce_open(load, url, rate=1e6, seconds=3e-4)  # 300 at once, 128 connections
    assert (told["events"], told["next"], bodies) == (300, 307, 300)
    server.close()


async def test_a_producer_connects_again_and_repeats_what_was_lost_with_its_connection() -> None:
    bodies = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal bodies
        with contextlib.suppress(asyncio.IncompleteReadError):
            for _ in range(2):
                await reader.readuntil(b"}")
                bodies += 1
                writer.write(b"HTTP/1.1 202 Accepted\r\n\r\n")
            await reader.readuntil(b"}")  # the third is lost
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/default/bench"
    load = Load(until=math.inf, first=0, count=5, make=requests(url, 1))
    told = await produce(load, url, producers=1)
    assert (told["events"], bodies, told["reconnected"]) == (5, 5, 2)
    server.close()


def test_an_event_waits_for_what_comes_next_of_the_known_moments() -> None:
    told: list[Mapping[str, object]] = [
        {"moments": [("read", 5, 1.1), ("publish", 5, 1.2), ("stored", 5, 1.5), ("read", 4, 9.0)]},
        {"moments": [("post", 5, 1.9)]},  # another process; nobody noted when it came
    ]
    found = joined("all", 1.0, 5, moments(1.0), moments(2.0), told)
    expected = {"read": 100, "publish": 100, "post": 700, "arrived": 100, "posted": 0}
    assert found.ms == pytest.approx(expected)
    assert sum(found.ms.values()) == pytest.approx(found.whole_ms)
    assert found.stored_ms == pytest.approx(300)


def test_a_shared_function_counts_for_the_stage_that_called_it() -> None:
    publish = (f"{SITE}nats/aio/client.py", "Client.publish")
    settle = (f"{OURS}jetstream/cursor.py", "JetStreamLeasedEvent.settle")
    store = (f"{OURS}jetstream/store.py", "Requests.send_all")
    ingress = (f"{OURS}ingress.py", "Ingress.__call__")
    read = (f"{SITE}nats/aio/client.py", "Client._read_loop")
    command = ("/checkout/cli/relume/cli/main.py", "main")
    pings = (f"{OURS}pings.py", "run_all")
    assert stage_of([publish, settle, command]) == "settle"
    assert stage_of([publish, store, ingress, command]) == "store"
    assert stage_of([publish, read, command]) == "nats-py reads acks and events"
    assert stage_of([pings, command]) == "relume.eventing.pings"
    assert shares([(3, [command]), (1, [ingress])]) == {
        "event loop and the rest": 0.75,
        "ingress HTTP": 0.25,
    }
    found = places([(3, [publish, settle]), (1, [publish, store])])
    assert found == {"nats.aio.client:Client.publish": 1.0}


def test_every_moment_has_a_function_in_this_checkout() -> None:
    """Where one was renamed, PASSES gets its new name beside the old one."""
    path = LOADTESTS / "event_probe" / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("event_probe_sitecustomize", path)
    assert spec is not None and spec.loader is not None
    probe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    known = set()
    for each in probe.PASSES:
        owner, _, name = each.function.partition(".")
        module = importlib.import_module(each.module)
        if hasattr(getattr(module, owner, None), name):
            known.add(each.moment)
    assert known == WAITS.keys() - {"posted", "arrived"} | {"stored"}
