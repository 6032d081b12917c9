"""The whole story: applied, ready, an event, its answer, zero."""

import os
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from relume.base.vocabulary import SERVICE_LABEL
from relume.cluster.apply.api import ClusterApi, KubernetesApi, objects, text
from relume.cluster.apply.manifests import (
    ClusterManifest,
    ClusterWriter,
    Source,
    in_order,
    read_source,
)
from relume.cluster.render import Images, Options

from .conftest import Needs, running, until
from .stand_in import container

SAMPLE = Path(__file__).parents[3] / "config" / "samples" / "summarize.yaml"
GROUPS = ("serving.kserve.io/v1beta1", "serving.knative.dev/v1", "eventing.knative.dev/v1")


def test_an_event_wakes_a_model_is_answered_and_the_model_sleeps_again(
    api: KubernetesApi, writer: ClusterWriter, needs: Needs, image: str, namespace: str
) -> None:
    needs(*GROUPS)
    file = Path(os.environ.get("RELUME_TEST_MANIFEST", SAMPLE))
    images = Images({"relume-vllm-cpu": image})
    source = read_source([file], Options(images=images))
    broker = next(one.name for one in source.manifests if one.kind == "Broker")
    answers = in_order([*source.manifests, *sink(image, namespace, broker)])
    with running(Source(answers, source.patches), writer):
        ask(api, namespace, broker)


def ask(api: KubernetesApi, namespace: str, broker: str) -> None:
    """Send an event to the Broker, and wait for its answer and for the model's sleep."""
    event_id = uuid.uuid4().hex
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/relume/tests",
        "type": "com.example.summarize.request",
        "data": {"messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 8},
    }
    found = api.get(f"/apis/eventing.knative.dev/v1/namespaces/{namespace}/brokers/{broker}")
    ingress = _through_the_server(text(found, "status", "address", "url"))
    accepted = api.change("POST", ingress, event, "application/cloudevents+json")
    assert accepted.code in (200, 202), accepted.message

    until("the answer", lambda: event_id in _causes(api, namespace), 1500)
    pods = f"/api/v1/namespaces/{namespace}/pods"
    until("at zero", lambda: not api.list(pods, labelSelector=SERVICE_LABEL), 300)


def sink(image: str, namespace: str, broker: str) -> list[ClusterManifest]:
    """A pod that keeps the answers, and a Trigger that sends them there."""
    labels = {"app": "relume-answers"}
    metadata = {"name": "answers", "namespace": namespace}
    pod = {"containers": [container("answers", image)]}
    subscriber = {"ref": {"apiVersion": "v1", "kind": "Service", "name": "answers"}}
    exact = {"exact": {"type": "relume.inference.response"}}
    trigger = {"broker": broker, "filters": [exact], "subscriber": subscriber}
    port = {"port": 80, "targetPort": 8080}
    bodies = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata | {"labels": labels}, "spec": pod},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        | {"spec": {"selector": labels, "ports": [port]}},
        {"apiVersion": GROUPS[2], "kind": "Trigger", "metadata": metadata, "spec": trigger},
    ]
    return [ClusterManifest(body, "the tests") for body in bodies]


def _through_the_server(url: str) -> str:
    """A URL inside the cluster as the path that the API server passes on to it."""
    parts = urlsplit(url)
    service, namespace = (parts.hostname or "").split(".")[:2]
    return f"/api/v1/namespaces/{namespace}/services/{service}:{parts.port or 80}/proxy{parts.path}"


def _causes(api: ClusterApi, namespace: str) -> set[str]:
    """The ids that the kept answers answer."""
    kept = api.get(f"/api/v1/namespaces/{namespace}/pods/answers:8080/proxy/")
    return {text(one, "headers", "ce-causationid") for one in objects(kept, "kept")}
