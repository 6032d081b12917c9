"""What the class of a Broker means for its Triggers: annotations read, left out, or refused."""

from pathlib import Path

import pytest

from relume.config import Plan

from .manifests import HERE, broker, load_text, refused, together, trigger

ORDER = "kafka.eventing.knative.dev/delivery.order"
PARALLELISM = "rabbitmq.eventing.knative.dev/parallelism"


def plan(tmp_path: Path, broker_class: str | None, annotation: str, spec: str = "") -> Plan:
    chosen = f"annotations: {{eventing.knative.dev/broker.class: {broker_class}}}"
    read = trigger(spec).replace("  name: t", f"  name: t\n  annotations: {{{annotation}}}")
    return load_text(tmp_path, together(broker(metadata=chosen if broker_class else ""), read))


@pytest.mark.parametrize(
    ("broker_class", "read"),
    [(None, True), ("Kafka", True), ("RabbitMQBroker", False), ("MTChannelBasedBroker", False)],
)
def test_the_order_is_for_kafka_and_for_us(
    tmp_path: Path, broker_class: str | None, read: bool
) -> None:
    found = plan(tmp_path, broker_class, f"{ORDER}: ordered")
    assert found.triggers[0].ordered
    left = [n.why for n in found.not_honoured if n.kind == "Trigger"]
    assert left == ([] if read else [f"a Broker of class {broker_class} does not read it"])


@pytest.mark.parametrize(
    ("broker_class", "read"), [(None, True), ("RabbitMQBroker", True), ("Kafka", False)]
)
def test_the_parallelism_is_for_rabbitmq_and_for_us(
    tmp_path: Path, broker_class: str | None, read: bool
) -> None:
    found = plan(tmp_path, broker_class, f"{PARALLELISM}: '7'")
    assert found.triggers[0].parallelism == 7
    assert [n.kind for n in found.not_honoured] == ["Broker"] * bool(broker_class) + (
        [] if read else ["Trigger"]
    )


def test_without_annotations_nothing_is_ordered_or_bounded(tmp_path: Path) -> None:
    [found] = plan(tmp_path, None, "").triggers
    assert (found.ordered, found.parallelism) == (False, None)
    [found] = plan(tmp_path, None, f"{ORDER}: unordered").triggers
    assert not found.ordered


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (f"{ORDER}: sorted", "must be ordered or unordered"),
        (f"{PARALLELISM}: '0'", "write a number from 1 to 1000"),
        (f"{PARALLELISM}: '1001'", "write a number from 1 to 1000"),
        (f"{PARALLELISM}: '{'9' * 40}'", "write a number from 1 to 1000"),
        (f"{PARALLELISM}: '-1'", "write a number from 1 to 1000"),
        (f"{PARALLELISM}: many", "write a number from 1 to 1000"),
    ],
)
def test_a_wrong_annotation_is_refused(tmp_path: Path, annotation: str, message: str) -> None:
    key = annotation.partition(":")[0]
    metadata = f"  name: t\n  annotations:\n    {annotation}  {HERE}"
    text = together(broker(), trigger().replace("  name: t", metadata))
    refused(tmp_path, text, f"metadata.annotations.{key}", message)


@pytest.mark.parametrize(
    ("broker_class", "words"),
    [
        ("Kafka", "the deliveries of Kafka are played"),
        ("MTChannelBasedBroker", "which lets the producer wait for every delivery"),
        ("Mine", "Mine is delivered as the specification says"),
    ],
)
def test_what_is_left_out_of_a_class_is_said(tmp_path: Path, broker_class: str, words: str) -> None:
    [note] = plan(tmp_path, broker_class, "").not_honoured
    assert "every Broker is stored in JetStream on this machine" in note.why
    assert words in note.why


SINK = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: %s}}"
DLS = f"delivery: {{deadLetterSink: {SINK}}}"


def test_dead_letters_that_come_back_to_their_own_broker_are_told(tmp_path: Path) -> None:
    [note] = load_text(tmp_path, together(broker(), trigger(DLS % "b"))).not_honoured
    assert (note.kind, note.field) == ("Trigger", "spec.delivery.deadLetterSink")
    assert "come back to its own Broker" in note.why
    [note] = load_text(tmp_path, together(broker(DLS % "b"), trigger())).not_honoured
    assert (note.kind, note.name) == ("Broker", "b")


def test_dead_letters_that_go_to_another_broker_are_fine(tmp_path: Path) -> None:
    text = together(broker(DLS % "b"), broker(name="other"), trigger(DLS % "other"))
    assert load_text(tmp_path, text).not_honoured == ()
