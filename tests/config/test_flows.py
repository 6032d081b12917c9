"""Sequences, Parallels and RequestReplies: what is read, refused and left out.

Fields and their rules: knative/eventing `pkg/apis/flows/v1`, `pkg/apis/eventing/v1alpha1`.
"""

from pathlib import Path

import pytest

from relume.config import Branch, Delivery, Destination, Ref, RequestReply, Step

from .manifests import HERE, broker, flow, load_text, refused, service, together, trigger

URI = "uri: http://127.0.0.1:9/"
STEP = f"- {URI}"
TO_BROKER = "ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}"
TO_MODEL = "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}"
HTTP = Destination(uri="http://127.0.0.1:9/")


def request_reply(spec: str) -> str:
    return flow("RequestReply", spec, "eventing.knative.dev/v1alpha1")


def test_a_sequence_has_steps_each_with_its_delivery_and_a_reply(tmp_path: Path) -> None:
    spec = f"""\
steps:
- {TO_MODEL}
  uri: /v1/chat/completions
  delivery: {{retry: 3, timeout: PT5M, deadLetterSink: {{{URI}}}}}
- {URI}
reply: {{{TO_BROKER}}}
"""
    plan = load_text(tmp_path, together(service(), broker(), flow("Sequence", spec)))
    [read] = plan.sequences
    model = Ref("InferenceService", "default", "m", "serving.kserve.io/v1beta1")
    assert read.steps == (
        Step(
            Destination(model, "/v1/chat/completions"),
            Delivery(retry=3, timeout_s=300.0, dead_letter_sink=HTTP),
        ),
        Step(HTTP),
    )
    assert read.reply == Destination(Ref("Broker", "default", "b", "eventing.knative.dev/v1"))


def test_a_parallel_has_branches(tmp_path: Path) -> None:
    spec = f"""\
branches:
- subscriber: {{{URI}}}
- filter: {{{URI}}}
  subscriber: {{{URI}}}
  reply: {{{URI}}}
  delivery: {{retry: 1}}
reply: {{{URI}}}
"""
    [read] = load_text(tmp_path, flow("Parallel", spec)).parallels
    assert read.branches == (Branch(HTTP), Branch(HTTP, HTTP, HTTP, Delivery(retry=1)))
    assert read.reply == HTTP


def test_of_a_channel_template_only_the_delivery_counts_and_the_rest_is_listed(
    tmp_path: Path,
) -> None:
    spec = f"""\
steps: [{{{URI}}}]
channelTemplate:
  apiVersion: messaging.knative.dev/v1beta1
  kind: KafkaChannel
  spec: {{numPartitions: 3, delivery: {{retry: 7}}}}
"""
    plan = load_text(tmp_path, flow("Sequence", spec))
    assert plan.sequences[0].channel_delivery == Delivery(retry=7)
    assert {(note.field, note.kind) for note in plan.not_honoured} == {
        ("spec.channelTemplate", "Sequence"),
        ("spec.channelTemplate.spec.numPartitions", "Sequence"),
    }
    assert "only delivery counts" in str(plan.not_honoured)


def test_a_request_reply_has_the_defaults_of_a_cluster(tmp_path: Path) -> None:
    spec = "brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}"
    [read] = load_text(tmp_path, together(broker(), request_reply(spec))).request_replies
    assert read == RequestReply("default", "f", "b", "correlationid", "replyid", 30.0)


def test_a_request_reply_with_everything(tmp_path: Path) -> None:
    spec = """\
brokerRef: {name: b}
correlationAttribute: question
replyAttribute: answer
timeout: PT2M
delivery: {retry: 2}
"""
    [read] = load_text(tmp_path, together(broker(), request_reply(spec))).request_replies
    assert read == RequestReply("default", "f", "b", "question", "answer", 120.0, Delivery(retry=2))


@pytest.mark.parametrize(
    "kind, spec, field, message",
    [
        ("Sequence", "reply: null", "spec.steps", "is missing: write at least one"),
        ("Sequence", f"steps: []  {HERE}", "spec.steps", "is empty"),
        ("Sequence", f"steps:\n- delivery: {{}}  {HERE}", "spec.steps[0]", "write ref or uri"),
        ("Sequence", f"steps:\n{STEP}\n- urI: x  {HERE}", "spec.steps[1].urI", "did you mean uri"),
        (
            "Sequence",
            f"steps:\n{STEP}\n  delivery: {{retry: -1}}  {HERE}",
            "spec.steps[0].delivery.retry",
            "expected 0 <= -1",
        ),
        ("Sequence", f"steps:\n{STEP}\nreplys: x  {HERE}", "spec.replys", "did you mean reply?"),
        (
            "Sequence",
            f"steps:\n{STEP}\nchannelTemplate: {{kind: InMemoryChannel}}  {HERE}",
            "spec.channelTemplate.apiVersion",
            "is missing",
        ),
        (
            "Sequence",
            f"steps:\n- {TO_BROKER}  {HERE}",
            "spec.steps[0].ref.name",
            "no Broker default/b is in these files",
        ),
        (
            "Sequence",
            f"steps:\n{STEP}\n  delivery: {{deadLetterSink: {{{TO_BROKER}}}}}  {HERE}",
            "spec.steps[0].delivery.deadLetterSink.ref.name",
            "no Broker default/b is in these files",
        ),
        (
            "Sequence",
            f"steps:\n{STEP}\n- {URI}\n  CACerts: x  {HERE}",
            "spec.steps[1].CACerts",
            "not honoured on this machine",
        ),
        ("Parallel", "reply: null", "spec.branches", "is missing: write at least one"),
        (
            "Parallel",
            f"branches:\n- filter: {{{URI}}}  {HERE}",
            "spec.branches[0].subscriber",
            "is missing",
        ),
        (
            "Parallel",
            f"branches:\n- subscriber: {{{URI}}}\n  filter: {{{TO_BROKER}}}  {HERE}",
            "spec.branches[0].filter.ref.name",
            "no Broker default/b",
        ),
        (
            "Parallel",
            f"branches:\n- subscriber: {{{URI}}}\nreply: {{{TO_BROKER}}}  {HERE}",
            "spec.reply.ref.name",
            "no Broker default/b",
        ),
    ],
)
def test_a_flow_that_is_wrong_is_refused_by_its_field(
    tmp_path: Path, kind: str, spec: str, field: str, message: str
) -> None:
    refused(tmp_path, flow(kind, spec), field, message)


@pytest.mark.parametrize(
    "spec, field, message",
    [
        ("timeout: PT1S", "spec.brokerRef", "is missing"),
        (f"brokerRef: {{name: c}}  {HERE}", "spec.brokerRef.name", "no Broker default/c"),
        (f"brokerRef: {{name: b, kind: Job}}  {HERE}", "spec.brokerRef.kind", "must be Broker"),
        (
            f"brokerRef: {{name: b, namespace: x}}  {HERE}",
            "spec.brokerRef.namespace",
            "is in its Broker's namespace",
        ),
        (f"brokerRef: {{name: b}}\ntimeout: PT0S  {HERE}", "spec.timeout", "longer than PT0S"),
        (f"brokerRef: {{name: b}}\ntimeout: 30s  {HERE}", "spec.timeout", "ISO 8601"),
        (
            f"brokerRef: {{name: b}}\ncorrelationAttribute: id  {HERE}",
            "spec.correlationAttribute",
            "write an extension",
        ),
        (
            f"brokerRef: {{name: b}}\nreplyAttribute: correlationid  {HERE}",
            "spec.replyAttribute",
            "a request would answer itself",
        ),
        (
            f"brokerRef: {{name: b}}\nreplyAttribute: replyId  {HERE}",
            "spec.replyAttribute",
            "lower case letters and digits",
        ),
    ],
)
def test_a_request_reply_that_is_wrong_is_refused_by_its_field(
    tmp_path: Path, spec: str, field: str, message: str
) -> None:
    refused(tmp_path, together(broker(), request_reply(spec)), field, message)


def test_a_kind_of_another_version_is_refused(tmp_path: Path) -> None:
    text = flow("Sequence", f"steps: [{{{URI}}}]", f"flows.knative.dev/v1beta1  {HERE}")
    refused(tmp_path, text, "apiVersion", "write flows.knative.dev/v1")


@pytest.mark.parametrize("kind", ["Sequence", "Parallel", "RequestReply"])
def test_a_trigger_may_send_to_a_flow(tmp_path: Path, kind: str) -> None:
    specs = {
        "Sequence": f"steps: [{{{URI}}}]",
        "Parallel": f"branches: [{{subscriber: {{{URI}}}}}]",
        "RequestReply": "brokerRef: {name: b}",
    }
    api = "eventing.knative.dev/v1alpha1" if kind == "RequestReply" else "flows.knative.dev/v1"
    ref = f"ref: {{apiVersion: {api}, kind: {kind}, name: f}}"
    text = together(broker(), trigger(subscriber=ref), flow(kind, specs[kind], api))
    assert load_text(tmp_path, text).triggers[0].subscriber.ref == Ref(kind, "default", "f", api)


@pytest.mark.parametrize(
    "filters, circles",
    [("", True), ("filters: []", True), ("filters: [{exact: {type: a}}]", False)],
)
def test_a_reply_that_comes_back_for_ever_is_noted(
    tmp_path: Path, filters: str, circles: bool
) -> None:
    ref = "ref: {apiVersion: flows.knative.dev/v1, kind: Sequence, name: f}"
    sequence = flow("Sequence", f"steps: [{{{URI}}}]\nreply: {{{TO_BROKER}}}")
    plan = load_text(tmp_path, together(broker(), trigger(filters, subscriber=ref), sequence))
    assert [note.field for note in plan.not_honoured] == ["spec.reply"] * circles


@pytest.mark.parametrize("name", ["f-kn-sequence-0", "f-kn-sequence-0-reply"])
def test_a_broker_may_not_have_the_name_of_a_channel(tmp_path: Path, name: str) -> None:
    text = together(broker(name=f"{name}  {HERE}"), flow("Sequence", f"steps: [{{{URI}}}]"))
    refused(tmp_path, text, "metadata.name", "Sequence f uses this name for a part of itself")


def test_a_trigger_may_not_have_the_name_of_a_request_replys_own(tmp_path: Path) -> None:
    other = trigger().replace("name: t", f"name: f-kn-requestreply  {HERE}")
    text = together(broker(), other, request_reply("brokerRef: {name: b}"))
    refused(tmp_path, text, "metadata.name", "RequestReply f uses this name")
