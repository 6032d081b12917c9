"""What `relume up` and `relume status` say about the kind of Broker that each one plays."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relume.cli.errors import BadUsage
from relume.cli.machine.client import choose_broker
from relume.cli.machine.dlq import log_of
from relume.cli.machine.flows import flow_lines, target
from relume.cli.machine.listing import events_of, show_plane
from relume.cli.machine.reports import EventRecord, Status
from relume.cli.machine.status import show_eventing
from relume.cli.machine.story import record_line, related
from relume.cli.screen import Screen
from relume.config import (
    All,
    Any_,
    Branch,
    Broker,
    Cesql,
    Destination,
    Exact,
    Filter,
    Negation,
    ParallelFlow,
    PingSource,
    Plan,
    Prefix,
    Ref,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Step,
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


# ---- flows

TO_BROKER = Destination(Ref("Broker", "default", "events", "eventing.knative.dev/v1"))
HERE = Destination(uri="http://u:secret@h/x")
FLOWS = Plan(
    brokers=(Broker("default", "events"),),
    sequences=(SequenceFlow("default", "s", (Step(HERE), Step(TO_BROKER)), TO_BROKER),),
    parallels=(ParallelFlow("default", "p", (Branch(HERE, TO_BROKER),)),),
    request_replies=(RequestReply("default", "r", "events"),),
    ping_sources=(PingSource("default", "t", TO_BROKER, "0 5 * * *"),),
    sink_bindings=(
        SinkBinding("default", "k", TO_BROKER, Ref("Service", "default", "f", "serving")),
    ),
)


@pytest.mark.parametrize(
    "name, does",
    [
        ("Sequence default/s", "http://***@h/x → Broker events → Broker events"),
        ("Parallel default/p", "Broker events → http://***@h/x"),
        ("RequestReply default/r", "asks Broker events, and waits 30 s for the answer"),
        ("PingSource default/t", "0 5 * * * (UTC) → Broker events"),
        ("SinkBinding default/k", "K_SINK of Service f is Broker events"),
    ],
)
def test_each_flow_and_source_says_what_it_does(name: str, does: str) -> None:
    lines = {f"{each.kind} {each.namespace}/{each.name}": each.does for each in flow_lines(FLOWS)}
    assert lines[name] == does


def test_the_start_lists_flows_with_their_addresses(tmp_path: Path) -> None:
    plane = LocalPlane(FLOWS, PlaneSettings(tmp_path), ModelStore(tmp_path))
    plane.broker = "http://b"
    file = io.StringIO()
    show_plane(Screen(Console(file=file, highlight=False, width=200)), plane, as_json=False)
    assert "http://b/default/s-kn-sequence-0" in file.getvalue()
    file = io.StringIO()
    show_plane(Screen(Console(file=file, highlight=False)), plane, as_json=True)
    urls = {each["kind"]: each["url"] for each in json.loads(file.getvalue())["flows"]}
    assert urls["RequestReply"] == "http://b/request-reply/default/r"
    assert urls["PingSource"] is None


def test_the_status_shows_the_logs_of_flows_and_who_waits() -> None:
    channel = {"namespace": "default", "name": "s-kn-sequence-0", "url": "http://b/s"}
    door = {"namespace": "default", "name": "r", "broker": "events", "waiting": 2, "url": "u"}
    eventing = {"brokers": [channel | {"of": "Sequence default/s"}], "request_replies": [door]}
    file = io.StringIO()
    screen = Screen(Console(file=file, highlight=False, width=200))
    show_eventing(screen, Status.parse({**STATUS, "eventing": eventing}))
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert ["default/s-kn-sequence-0", "Sequence", "default/s", "0", "0", "http://b/s"] in lines
    assert ["default/r", "events", "2", "u"] in lines


# ---- what belongs to an event


def record(stage: str, id_: str, detail: str | None = None, **attributes: str) -> EventRecord:
    return EventRecord(
        at="", stage=stage, broker="default/b", event={"id": id_, **attributes}, detail=detail
    )


def test_an_event_is_followed_from_answer_to_answer_through_a_pipeline() -> None:
    records = [
        record("accepted", "1"),
        record("replied", "half", "to 1"),
        record("accepted", "half"),
        record("replied", "whole", "to half"),
        record("accepted", "other"),
        record("dead-lettered", "late", causationid="whole"),
        record("retrying", "other", "to 1"),
    ]
    assert [each.id for each in related(records, "1")] == ["1", "half", "half", "whole", "late"]
    assert related(records, "none") == []


def test_a_step_of_a_flow_is_named_once() -> None:
    step = {"at": "", "stage": "delivered", "broker": "default/s-kn-sequence-0", "event": {}}
    line = record_line(EventRecord.parse({**step, "trigger": "s-kn-sequence-0"})).plain
    assert line.count("s-kn-sequence-0") == 1
    other = record_line(EventRecord.parse({**step, "trigger": "t"})).plain
    assert "default/s-kn-sequence-0 → t" in other


# ---- which log a command means


def logs(**dead_letters: int) -> Status:
    """A plane whose Sequence s stands beside Broker events; `dead_letters` by the log's name."""
    own = [("events", None), ("step0", "Sequence default/s"), ("step1", "Sequence default/s")]
    brokers = [
        {
            "namespace": "default",
            "name": name,
            "url": "u",
            "dead_letters": dead_letters.get(name, 0),
        }
        | ({"of": of} if of else {})
        for name, of in own
    ]
    triggers = [{"namespace": "default", "name": "t", "broker": name} for name, _ in own]
    return Status.parse({**STATUS, "eventing": {"brokers": brokers, "triggers": triggers}})


def test_an_event_is_sent_to_the_only_broker_and_not_to_a_channel() -> None:
    assert choose_broker(logs(), None).name == "events"
    assert choose_broker(logs(), "step1").of == "Sequence default/s"


def test_dead_letters_of_several_logs_need_the_name_of_one() -> None:
    assert log_of(logs(step1=1), None) == "default/step1"
    assert log_of(logs(), None) == "default/events"
    with pytest.raises(BadUsage, match="one with --broker: default/events, default/step0"):
        log_of(logs(step0=1, events=2), None)
    assert log_of(logs(step0=1, events=2), "step0") == "default/step0"
