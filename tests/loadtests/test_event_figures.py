"""What the benchmark of the Broker computes, sends and counts."""

import asyncio

import pytest
from event_figures import Backlog, Rates, Row, Sustained, missed
from event_load import Load, produce, requests
from event_programs import Posted
from event_scenes import Cpu, slowest
from event_sink import Count, Subscriber

from relume.cloudevents.http import BATCH_TYPE, decode


def posted(events: int, seconds: float, p99_ms: float = 1.0) -> Posted:
    return Posted(events, seconds, events, 0.1, 1.0, p99_ms, 2.0)


def backlog(ingress: float, dispatch: float, grown_mb: float, started_s: float) -> Backlog:
    return Backlog(
        events=10,
        batched=posted(9000, 1.0),
        # The machine was twice as fast in the second turn: that changes no ratio.
        empty=(Rates(1000, 1000, 400, 600), Rates(2000, 2000, 200, 300)),
        full=(
            Rates(ingress, dispatch, 420, 630),
            Rates(2 * ingress, 2 * dispatch, 210, 315),
        ),
        plane_mb=(60.0, 60.0 + grown_mb),
        nats_mb=(50.0, 300.0),
        serving_s={"a kill -9": (1.0, started_s, 9.0), "a stop": (1.0,)},
    )


def test_a_rate_is_held_from_below_and_a_time_from_above() -> None:
    assert Row("rate", 1500, "events/s", least=1500).holds
    assert not Row("rate", 1499, "events/s", least=1500).holds
    assert not Row("p99", 60, "ms", below=60).holds
    assert Row("cpu", 1, "s").holds is None


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (backlog(901, 901, 49, 2.9), []),
        (backlog(899, 901, 49, 2.9), ["ingress, ratio"]),
        (backlog(901, 899, 51, 2.9), ["dispatch, ratio", "more than without"]),
        (backlog(901, 901, 49, 3.1), ["serving after a kill -9"]),
    ],
)
def test_a_target_that_is_missed_is_named(found: Backlog, names: list[str]) -> None:
    assert missed([found.rows()]) == names


def test_what_counts_end_to_end_is_what_was_delivered_in_the_time() -> None:
    found = Sustained(posted(4000, 1.0, 59.0), 2.0, 2900, 1000.0, 0, Cpu(1.0, 0.1, 0.1))
    assert missed([found.rows()]) == ["delivered, acknowledged"]
    assert found.cpu_rows()[0].value == 250


def test_the_slowest_window_is_found() -> None:
    samples = [(0.0, 0), (1.0, 100), (2.0, 110), (3.0, 120), (4.0, 300)]
    assert slowest(samples, 2.0) == 10.0


def test_a_number_counts_once_among_the_distinct() -> None:
    count = Count()
    for number in (0, 7, 8, 7):
        count.take(number)
    assert (count.deliveries, count.distinct) == (4, 3)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_requests_are_events_of_one_kibibyte(batch: int) -> None:
    head, _, body = requests("http://127.0.0.1:1/default/bench", batch)(41).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /default/bench HTTP/1.1"
    headers = [tuple(line.split(": ", 1)) for line in lines[1:]]
    assert ("content-length", str(len(body))) in headers
    events = decode(headers, body).events  # type: ignore[arg-type]
    assert [event.id for event in events] == [str(41 + n) for n in range(batch)]
    assert all(len(event.data or b"") == 1024 for event in events)
    assert (("content-type", BATCH_TYPE) in headers) is (batch > 1)


async def test_producers_stop_at_their_count_and_at_a_refusal() -> None:
    count = Count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Subscriber(count), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/default/bench"
    load = Load(until=float("inf"), first=5, count=10, make=requests(url, 1))
    with pytest.raises(SystemExit, match="204"):  # a subscriber is no Broker
        await produce(load, url, 2)
    assert count.distinct in (1, 2)
    server.close()
