"""What the doctor says of a NATS cluster: by its facts, and of real nats-servers."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relume.cli.main import run
from relume.cluster.doctor.nats import GIB, examine_nats, judge_nats, unreachable_from_here
from relume.eventing.jetstream.probe import KeptStream, NatsFacts
from relume.eventing.settings import MAX_MESSAGE_BYTES
from tests.cluster.render.rendering import GPU, service
from tests.eventing.jetstream.nats_servers import credentials, servers
from tests.ports import own_port

GOOD = NatsFacts(
    address="n:4222",
    version=(2, 14, 2),
    max_message_bytes=MAX_MESSAGE_BYTES,
    copies=3,
    room=True,
)
Output = pytest.CaptureFixture[str]


def judged(**changes: Any) -> dict[str, str]:
    """Reason and message of every finding that is more than a note."""
    found = judge_nats(replace(GOOD, **changes), copies=3)
    return {one.reason: one.message for one in found if one.severity != "info"}


def test_a_cluster_that_has_everything_has_notes_only() -> None:
    assert judged() == {}
    messages = [one.message for one in judge_nats(GOOD, 3)]
    assert "nats-server 2.14.2" in messages
    assert any("3 copies" in message for message in messages)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"version": (2, 10, 29)}, "nats-old", "older than 2.11"),
        ({"unreachable": ("b:4222",)}, "nats-server-away", "b:4222"),
        ({"max_message_bytes": 1 << 20}, "nats-small-messages", "1.0 MiB"),
        ({"without_jetstream": "it is off"}, "nats-no-jetstream", "it is off"),
        ({"copies": 1, "why_fewer": "no peers"}, "nats-too-few-servers", "no peers"),
        ({"room": False}, "nats-little-room", "1.0 GiB"),
        (
            {"used_bytes": 9 * GIB, "limit_bytes": 10 * GIB},
            "nats-little-room",
            "9.0 GiB of the account's 10.0 GiB",
        ),
        ({"jobs": KeptStream("relume_work", 1, ())}, "one-copy", "1 copies"),
        ({"jobs": KeptStream("relume_work", 3, ("n2",))}, "nats-server-away", "n2"),
    ],
)
def test_what_is_missing_is_said(changes: dict[str, Any], reason: str, said: str) -> None:
    found = judged(**changes)
    assert set(found) == {reason}
    assert said in found[reason]


def test_enough_room_is_a_note() -> None:
    assert judged(used_bytes=GIB, limit_bytes=10 * GIB) == {}


async def test_a_real_server_alone_is_too_few_for_three_copies(tmp_path: Path) -> None:
    async with servers(tmp_path, more="max_payload: 8MB\n") as [one]:
        found = await asyncio.to_thread(examine_nats, [one.url], None, 3)
        errors = {f.reason for f in found if f.severity == "error"}
        assert errors == {"nats-too-few-servers"}
        found = await asyncio.to_thread(examine_nats, [one.url], None, 1)
        assert {f.reason for f in found} == {"cluster-fact"}


async def test_the_command_examines_nats_with_credentials(tmp_path: Path, capsys: Output) -> None:
    known = credentials(tmp_path)
    async with servers(tmp_path, more=f"max_payload: 8MB\n{known.config}") as [one]:
        words = ["doctor", "--nats", one.url, "-o", "json"]
        assert await asyncio.to_thread(run, words) == 1
        told = json.loads(capsys.readouterr().out)
        assert [f["reason"] for f in told["findings"]] == ["nats-unreachable"]
        words += ["--nats-creds", str(known.file)]
        assert await asyncio.to_thread(run, words) == 1
        told = json.loads(capsys.readouterr().out)
        assert told["nats"] == [one.url.removeprefix("nats://")]
        wrong = [f["reason"] for f in told["findings"] if f["severity"] == "error"]
        assert wrong == ["nats-too-few-servers"]


def test_a_password_in_a_url_is_not_printed(capsys: Output) -> None:
    port = own_port()
    assert run(["doctor", "--nats", f"nats://u:hunter2@127.0.0.1:{port}"]) == 1
    printed = capsys.readouterr()
    assert f"127.0.0.1:{port}" in printed.out
    assert "hunter2" not in printed.out + printed.err


def test_a_name_that_means_something_inside_of_a_cluster_only_is_no_error() -> None:
    port = own_port()
    found = examine_nats([f"nats://127.0.0.1:{port}"], None, 3)
    assert [one.severity for one in found] == ["error"]
    (mild,) = unreachable_from_here(found)
    assert mild.severity == "info"
    assert "port-forward" in mild.fix


def test_without_anything_to_examine_the_command_says_what_it_takes(capsys: Output) -> None:
    assert run(["doctor"]) == 2
    assert "--nats" in capsys.readouterr().err


def test_credentials_belong_to_a_cluster(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(service(model=GPU))
    assert run(["doctor", str(file), "--nats-creds", str(file)]) == 2
    assert "--nats URL" in capsys.readouterr().err
