"""What is wrong with an expression on the command line is pointed at."""

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from relume.cli.machine.client import PlaneClient
from relume.cli.machine.events import pointed
from relume.cli.main import run
from relume.cloudevents.event import CloudEvent
from relume.eventing.observer import Record

if TYPE_CHECKING:
    from tests.cli.conftest import StandIn

Output = pytest.CaptureFixture[str]


def happened(plane: "StandIn", *types: str) -> None:
    for number, type_ in enumerate(types):
        event = CloudEvent.create({"id": str(number), "source": "/s", "type": type_})
        plane.observer.publish(Record("2026-01-01T00:00:00Z", "accepted", "default/inbox", event))


def test_events_shows_those_that_pass_the_filter(plane: "StandIn", capsys: Output) -> None:
    happened(plane, "com.a", "com.b", "org.a", "com.c")
    line = ["events", "--replay", "10", "--no-follow", "-o", "json"]
    assert run([*line, "--filter", "type LIKE 'com.%' AND id != '1'"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["event"]["type"] for record in records] == ["com.a", "com.c"]


def test_an_event_that_makes_the_filter_fail_is_not_shown(plane: "StandIn", capsys: Output) -> None:
    happened(plane, "com.a")
    assert run(["events", "--replay", "10", "--no-follow", "--filter", "missing = 1"]) == 0
    assert capsys.readouterr().out == ""


async def test_the_filter_holds_for_what_happens_later_too(plane: "StandIn") -> None:
    async with PlaneClient(plane.url) as client:
        broker = (await client.status()).eventing.brokers[0]
        async with client.events(filter="id LIKE '%5'") as records:
            for number in range(20):
                headers = [("ce-specversion", "1.0"), ("ce-id", str(number))]
                headers += [("ce-source", "/s"), ("ce-type", "silent")]
                await client.post_event(broker.url, headers, b"")
            plane.stop()
            assert [record.id async for record in records] == ["5", "15"]


def test_a_wrong_filter_is_exit_2_with_a_caret_and_needs_no_plane(capsys: Output) -> None:
    url = "http://127.0.0.1:1"
    assert run(["events", "--filter", "type = 'a' AN id = 1", "--url", url]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "relume: --filter: character 12: unexpected AN, expected an operator",
        "  type = 'a' AN id = 1",
        "             ^",
    ]


def test_the_control_api_refuses_what_is_no_expression(plane: "StandIn") -> None:
    answer = httpx.get(f"{plane.url}/relume/events", params={"filter": "type = "})
    assert answer.status_code == 400
    assert answer.text.startswith("filter: character 8: ")


@pytest.mark.parametrize("replay", ["-1", "1e3", "", "9" * 5000])
def test_the_control_api_refuses_what_is_no_number(plane: "StandIn", replay: str) -> None:
    answer = httpx.get(f"{plane.url}/relume/events", params={"replay": replay})
    assert (answer.status_code, answer.text) == (400, "replay: write a number\n")


@pytest.mark.parametrize(
    ("text", "position", "lines"),
    [
        ("", 0, ["  ", "  ^"]),
        ("a = ", 4, ["  a = ", "      ^"]),
        ("a\n=\t\x1b[1m", 4, ["  a = \ufffd[1m", "      ^"]),
        ("'\u732b' = &", 6, ["  '\u732b' = &", "         ^"]),
        ("x" * 100, 50, ["  …" + "x" * 60 + "…", "  " + " " * 31 + "^"]),
        ("x" * 100, 99, ["  …" + "x" * 31, "  " + " " * 31 + "^"]),
    ],
)
def test_the_caret_is_under_the_character(text: str, position: int, lines: list[str]) -> None:
    assert pointed(text, position).split("\n") == lines
