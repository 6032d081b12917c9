"""What `relume up` and `relume status` say about the kind of Broker that each one plays."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from relume.cli.machine.listing import show_plane
from relume.cli.machine.reports import Status
from relume.cli.machine.status import show_eventing
from relume.cli.screen import Screen
from relume.config import Broker, Plan
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.models.store import ModelStore

PLAN = Plan(brokers=(Broker("default", "plain"), Broker("default", "events", "KafkaNamespaced")))
STATUS = {
    "version": "1",
    "pid": 1,
    "started_at": "now",
    "http": "http://h",
    "broker": "http://b",
    "state_dir": "/s",
    "serving": {"services": []},
    "eventing": {
        "brokers": [
            {"namespace": "default", "name": "events", "url": "http://b/e", "profile": "kafka"}
        ],
        "triggers": [{"namespace": "default", "name": "t", "broker": "events", "dropped": 3}],
    },
}


def shown(tmp_path: Path, *, as_json: bool) -> str:
    file = io.StringIO()
    plane = LocalPlane(PLAN, PlaneSettings(tmp_path), ModelStore(tmp_path))
    show_plane(Screen(Console(file=file, highlight=False)), plane, as_json=as_json)
    return file.getvalue()


def test_each_broker_says_at_the_start_what_it_plays(tmp_path: Path) -> None:
    lines = shown(tmp_path, as_json=False).splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("default/")] == [
        ["default/plain", "strict"],
        ["default/events", "kafka"],
    ]
    [played] = [line for line in lines if "plays" in line]
    assert played.startswith("  default/events plays the Kafka Broker: 50 deliveries at once")


def test_as_json_too(tmp_path: Path) -> None:
    brokers = json.loads(shown(tmp_path, as_json=True))["brokers"]
    assert [broker["profile"] for broker in brokers] == ["strict", "kafka"]


@pytest.mark.parametrize("words", ["kafka", "default/t: 3 lost, as with its Broker's class"])
def test_the_status_tells_it_and_what_was_lost(words: str) -> None:
    file = io.StringIO()
    show_eventing(Screen(Console(file=file, highlight=False)), Status.parse(STATUS))
    assert words in file.getvalue()
