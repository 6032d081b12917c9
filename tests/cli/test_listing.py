"""What `relume up` and `relume status` say about the kind of Broker that each one plays."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relume.cli.machine.listing import events_of, show_plane, target
from relume.cli.machine.reports import Status
from relume.cli.machine.status import show_eventing
from relume.cli.screen import Screen
from relume.config import (
    All,
    Any_,
    Broker,
    Cesql,
    Destination,
    Exact,
    Filter,
    Negation,
    Plan,
    Prefix,
    Ref,
    Suffix,
    Trigger,
)
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


# ---- Triggers in words


def trigger(**changes: object) -> Trigger:
    service = Ref(kind="InferenceService", namespace="ns", name="it", api_version="v1")
    subscriber = Destination(ref=service, uri="/v1/embeddings")
    return replace(Trigger("ns", "t", "b", subscriber), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "filters, words",
    [
        ((), "all"),
        ((Exact({"type": "a", "source": "/s"}),), "type=a, source=/s"),
        ((Prefix({"type": "com."}), Suffix({"type": ".v1"})), "type^=com. and type$=.v1"),
        ((Negation(Any_((Exact({"a": "1"}), Exact({"b": "2"})))),), "not (a=1 or b=2)"),
        ((Cesql("a = 1\n  AND b = 2\n"), Exact({"c": "3"})), "(a = 1 AND b = 2) and c=3"),
        ((Negation(Cesql("EXISTS a")),), "not (EXISTS a)"),
        ((All((Exact({"a": "1"}), Negation(Exact({"b": "2"})))),), "a=1 and not b=2"),
    ],
    ids=[
        "no filter takes all",
        "attributes are listed",
        "filters are joined by and",
        "a negated choice is in brackets",
        "an expression is one line in brackets",
        "a negated expression is in brackets",
        "a negation in an all needs no brackets",
    ],
)
def test_filters_are_put_into_words(filters: tuple[Filter, ...], words: str) -> None:
    assert events_of(trigger(filters=filters or None)) == words


def test_filters_of_the_older_kind_are_put_into_words() -> None:
    assert events_of(trigger(legacy_attributes={"type": "a"})) == "type=a"
    assert target(trigger().subscriber) == "InferenceService it/v1/embeddings"
    assert target(Destination(uri="http://x/")) == "http://x/"
