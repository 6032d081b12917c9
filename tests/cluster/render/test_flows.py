"""Flows and sources go through a rendering as they are written, with deliveries that wait."""

from pathlib import Path

import pytest

from relume.cluster.render import Options
from tests.cluster.render.rendering import broker, find, render_text, service
from tests.cluster.render.schemas import problems

CHAT = "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}"
TEMPLATE = (
    "channelTemplate: {apiVersion: messaging.knative.dev/v1beta1, kind: KafkaChannel, "
    "spec: {numPartitions: 3, delivery: {retry: 2, retryAfterMax: PT5S}}}"
)

STANDARD = Options("standard")


def flow(kind: str, spec: str, api: str = "flows.knative.dev/v1") -> str:
    return f"{{apiVersion: {api}, kind: {kind}, metadata: {{name: f}}, spec: {{{spec}}}}}\n"


SEQUENCE = flow(
    "Sequence", f"steps: [{{uri: 'http://h/'}}, {{{CHAT}, delivery: {{retry: 9}}}}], {TEMPLATE}"
)
PARALLEL = flow("Parallel", f"branches: [{{subscriber: {{{CHAT}}}}}], {TEMPLATE}")
REQUEST_REPLY = flow(
    "RequestReply",
    "brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}, timeout: PT2M",
    "eventing.knative.dev/v1alpha1",
)
PING = flow("PingSource", f"sink: {{{CHAT}}}, data: x", "sources.knative.dev/v1")


def test_a_step_at_a_model_gets_a_delivery_that_outlasts_a_cold_start(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(), SEQUENCE, options=STANDARD)
    document = find(rendering, "Sequence")
    plain, model = document["spec"]["steps"]
    assert plain == {"uri": "http://h/"}
    assert model["delivery"]["retry"] == 9
    assert {"timeout", "backoffPolicy", "backoffDelay"} <= model["delivery"].keys()
    assert find(rendering, "ClusterRole")


def test_a_branch_repeats_what_its_own_delivery_hides_of_the_channels(tmp_path: Path) -> None:
    document = find(render_text(tmp_path, service(), PARALLEL, options=STANDARD), "Parallel")
    [branch] = document["spec"]["branches"]
    assert (branch["delivery"]["retryAfterMax"], branch["delivery"]["backoffPolicy"]) == (
        "PT5S",
        "exponential",
    )


def test_what_a_cluster_does_otherwise_is_noted(tmp_path: Path) -> None:
    bare = flow("Sequence", "steps: [{uri: 'http://h/'}]")
    notes = "\n".join(map(str, render_text(tmp_path, broker(), REQUEST_REPLY, bare).notes))
    assert "spec.timeout: a cluster waits one minute, whatever timeout says" in notes
    assert "without channelTemplate it runs on the cluster's default Channel" in notes


def test_the_feature_that_a_channels_delivery_needs_is_asked_for(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(), SEQUENCE, options=STANDARD)
    assert "delivery-retryafter" in "".join(rendering.files.values())


@pytest.mark.parametrize("text", [SEQUENCE, PARALLEL, REQUEST_REPLY, PING])
def test_what_is_rendered_fits_the_schemas(tmp_path: Path, text: str) -> None:
    rendering = render_text(tmp_path, service(), broker(), text, options=STANDARD)
    for documents in rendering.documents.values():
        for document in documents:
            if document["kind"] in ("Sequence", "Parallel", "RequestReply", "PingSource"):
                assert problems(document) == []
