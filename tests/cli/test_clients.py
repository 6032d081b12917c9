"""The commands that talk to a running plane, whole, against its stand-in."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relume.cli.machine.client import PlaneClient
from relume.cli.main import run
from tests.ports import own_port

if TYPE_CHECKING:
    from tests.cli.conftest import StandIn

Output = pytest.CaptureFixture[str]


# ---- finding the plane


@pytest.mark.parametrize(
    "line",
    [["status"], ["events"], ["explain", "1"], ["send", "--type", "ask"]],
    ids=lambda line: line[0],
)
def test_without_a_plane_each_command_says_how_to_start_one(
    line: list[str], capsys: Output
) -> None:
    url = f"http://127.0.0.1:{own_port()}"
    assert run([*line, "--url", url]) == 1
    assert capsys.readouterr().err == (
        f"relume: no plane is running at {url}; start one with `relume up FILE`\n"
    )


def test_something_else_on_the_port_is_not_taken_for_a_plane(
    plane: "StandIn", capsys: Output
) -> None:
    assert run(["status", "--url", plane.ingress]) == 1
    assert "not a plane" in capsys.readouterr().err


def test_a_url_that_is_none_is_one_line(capsys: Output) -> None:
    assert run(["status", "--url", "gopher://x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---- status


def test_status_shows_services_brokers_and_the_last_cold_start(
    plane: "StandIn", capsys: Output
) -> None:
    assert run(["status"]) == 0
    shown = capsys.readouterr().out
    assert plane.url in shown
    assert "default/summarizer  ready  1/1    0     2        3       2,300 ms" in shown
    assert f"{plane.ingress}/default/inbox" in shown
    assert "ready, 612 MB" in shown
    assert "engine            900 ms" in shown


def test_status_of_a_failed_service_ends_with_its_log(plane: "StandIn", capsys: Output) -> None:
    broken = {
        **plane.services[0],
        "name": "broken",
        "state": "failed",
        "reason": "the predictor exited with code 1",
        "log_tail": ["INFO loading", "ValueError: no such architecture"],
    }
    plane.services = [broken]
    assert run(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "default/broken failed: the predictor exited with code 1",
        "  INFO loading",
        "  ValueError: no such architecture",
    ]


def test_status_says_who_waits_for_memory_and_for_whom(plane: "StandIn", capsys: Output) -> None:
    memory = {"need": 3 << 29, "waiting_s": 12.3, "waits_for": ["default/a", "default/b"]}
    waiting = {**plane.services[0], "state": "starting", "phase": "memory", "memory": memory}
    plane.services = [waiting]
    assert run(["status"]) == 0
    shown = capsys.readouterr().out
    assert "starting: memory" in shown
    assert (
        "default/summarizer has waited 12 s for memory (1.5Gi for a replica), which default/a and "
        "default/b hold"
    ) in " ".join(shown.split())


def test_status_as_json_is_what_the_plane_says(plane: "StandIn", capsys: Output) -> None:
    assert run(["status", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["serving"]["services"][0]["pids"] == [4711]
    assert said["of_a_newer_plane"] is True


# ---- send


def test_send_says_that_the_event_is_stored(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "t", "--data", "words", "--id", "event-9"]) == 0
    assert capsys.readouterr().out == "accepted by default/inbox: event-9\n"
    headers, event = plane.seen[0]
    assert headers["ce-id"] == "event-9"
    assert (event.data, event.datacontenttype) == (b"words", "text/plain")


def test_send_in_structured_mode_sends_the_same_event(plane: "StandIn") -> None:
    line = [
        "send",
        "--type",
        "t",
        "--data",
        '{"a": 1}',
        "--ext",
        "partitionkey=k",
        "--subject",
        "s",
    ]
    assert run([*line, "--mode", "structured"]) == 0
    headers, event = plane.seen[0]
    assert headers["content-type"] == "application/cloudevents+json"
    assert event.data == b'{"a": 1}'
    assert (event.subject, event.attributes["partitionkey"]) == ("s", "k")


def test_send_posts_a_file(plane: "StandIn", tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_text('{"id": "1", "source": "/me", "type": "t", "data": {"n": 1.10}}')
    assert run(["send", str(file)]) == 0
    assert plane.seen[0][1].data == b'{"n": 1.10}'


def test_wait_prints_the_answer_and_on_stderr_its_cold_start(
    plane: "StandIn", capsys: Output
) -> None:
    assert run(["send", "--type", "ask", "--data", "words", "--id", "event-1", "--wait"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == "It sleeps."
    assert "  type             relume.inference.response" in lines
    assert "  causationid      event-1" in lines
    assert "cold start of summarizer: 2,300 ms, forked from the warm template" in shown.err


def test_wait_says_nothing_of_a_cold_start_that_was_not(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "ask", "--id", "event-2", "--wait"]) == 0
    assert "cold start" not in capsys.readouterr().err


def test_wait_with_json_prints_the_structured_event(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "ask", "--id", "event-1", "--wait", "-o", "json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert event["causationid"] == "event-1"
    assert event["data"] == {"choices": [{"text": "It sleeps."}]}


def test_an_error_event_is_printed_and_exits_1(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "ask-wrongly", "--wait"]) == 1
    assert capsys.readouterr().out.startswith("no messages\n")


def test_a_dead_letter_ends_the_wait_with_its_reason(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "die", "--id", "event-3", "--wait"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "relume: event-3 is a dead letter for summarize, last status 500: exhausted"
    )


def test_an_event_that_is_lost_ends_the_wait_too(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "vanish", "--id", "event-4", "--wait"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "relume: event-4 is gone for summarize, last status 400: lost"
    )


def test_no_answer_in_time_says_where_to_look(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "silent", "--id", "e", "--wait", "--timeout", "0.2"]) == 1
    assert "no answer to e in 0.2 s" in capsys.readouterr().err


def test_an_event_sent_twice_gets_the_answer_that_was_given(
    plane: "StandIn", capsys: Output
) -> None:
    assert run(["send", "--type", "ask", "--id", "e", "--wait"]) == 0
    capsys.readouterr()
    assert run(["send", "--type", "again", "--id", "e", "--wait", "--timeout", "60"]) == 0
    assert capsys.readouterr().out.startswith("It sleeps.\n")


def test_a_broker_that_cannot_store_is_exit_1(plane: "StandIn", capsys: Output) -> None:
    assert run(["send", "--type", "refuse"]) == 1
    assert capsys.readouterr().err == "relume: default/inbox answers 503: the store is away\n"


@pytest.mark.parametrize(
    "line, says",
    [
        ([], "name an event FILE"),
        (["event.json", "--type", "t"], "name an event FILE"),
        (["event.json", "--data", "x"], "--data"),
        (["--type", "t", "--ext", "novalue"], "--ext novalue"),
        (
            ["--type", "t", "--broker", "default/other"],
            "no such Broker here; there is default/inbox",
        ),
    ],
)
def test_options_that_make_no_sense_exit_2(
    plane: "StandIn", line: list[str], says: str, capsys: Output
) -> None:
    assert run(["send", *line]) == 2
    assert says in capsys.readouterr().err
    assert plane.seen == []


def test_with_several_brokers_one_must_be_chosen(plane: "StandIn", capsys: Output) -> None:
    plane.brokers = ["inbox", "other"]
    assert run(["send", "--type", "t"]) == 2
    assert "choose one with --broker: default/inbox, default/other" in capsys.readouterr().err
    assert run(["send", "--type", "t", "--broker", "other"]) == 0
    assert run(["send", "--type", "t", "--broker", "default/other"]) == 0


def test_without_a_broker_there_is_nowhere_to_send(plane: "StandIn", capsys: Output) -> None:
    plane.brokers = []
    assert run(["send", "--type", "t"]) == 2
    assert "has no Broker" in capsys.readouterr().err


# ---- events and explain


def test_events_replays_what_happened(plane: "StandIn", capsys: Output) -> None:
    run(["send", "--type", "ask", "--id", "event-1"])
    capsys.readouterr()
    assert run(["events", "--replay", "10", "--no-follow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["accepted", "delivered", "replied"]
    assert lines[1].endswith("default/inbox → summarize  ask  event-1  status 200, 2,300 ms")


def test_events_replays_only_as_many_as_asked_for(plane: "StandIn", capsys: Output) -> None:
    run(["send", "--type", "ask"])
    capsys.readouterr()
    assert run(["events", "--replay", "1", "--no-follow", "-o", "json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["stage"] == "replied"


async def test_a_subscriber_misses_nothing_and_the_stream_ends_with_the_plane(
    plane: "StandIn",
) -> None:
    async with PlaneClient(plane.url) as client:
        broker = (await client.status()).eventing.brokers[0]
        async with client.events() as records:
            for number in range(20):
                headers = [("ce-specversion", "1.0"), ("ce-id", str(number))]
                headers += [("ce-source", "/s"), ("ce-type", "silent")]
                await client.post_event(broker.url, headers, b"")
            seen = [(await anext(records)).id for _ in range(20)]
            plane.stop()
            rest = [record async for record in records]
    assert seen == [str(number) for number in range(20)]
    assert rest == []


async def test_a_watcher_that_leaves_is_forgotten(plane: "StandIn") -> None:
    async with PlaneClient(plane.url) as client:
        async with client.events():
            assert len(plane.observer._subscriptions) == 1
        async with asyncio.timeout(60):
            while plane.observer._subscriptions:
                await asyncio.sleep(0)


def test_explain_tells_deliveries_cold_start_and_answer(plane: "StandIn", capsys: Output) -> None:
    run(["send", "--type", "ask", "--id", "event-1"])
    capsys.readouterr()
    assert run(["explain", "event-1"]) == 0
    shown = capsys.readouterr().out
    for words in ("delivered", "cold start of summarizer", "first token", "It sleeps."):
        assert words in shown
    assert shown.index("accepted") < shown.index("replied") < shown.index("It sleeps.")


def test_explain_as_json_holds_the_records_and_the_ledger_entry(
    plane: "StandIn", capsys: Output
) -> None:
    run(["send", "--type", "ask", "--id", "event-1"])
    capsys.readouterr()
    assert run(["explain", "event-1", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [record["stage"] for record in said["records"]] == ["accepted", "delivered", "replied"]
    assert said["cold_start"]["engine"] == 900.0


def test_explain_of_an_unknown_event_exits_2(plane: "StandIn", capsys: Output) -> None:
    assert run(["explain", "nothing"]) == 2
    assert "nothing: no such event" in capsys.readouterr().err
