"""The jobs gateway: an event through a Trigger, stored in NATS, and its answer back in the Broker.

    RELUME_TEST_GATEWAY_IMAGE=REPOSITORY@sha256:… RELUME_TEST_IMAGE=… pytest -m cluster …

NATS must be in the cluster, three servers as nats-values.yaml of a rendering has them.
RELUME_TEST_NATS_URL says where (the official chart's address without it), RELUME_TEST_NATS_CREDS is
a credentials file for it, and RELUME_TEST_BROKER the class of the Broker (mt).
"""

import base64
import os
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
import yaml

from relume.base.vocabulary import Json
from relume.cluster.apply.api import KubernetesApi, part
from relume.cluster.apply.manifests import (
    ClusterManifest,
    ClusterWriter,
    Source,
    in_order,
    read_source,
)
from relume.cluster.render import GatewayOptions, Images, Options
from relume.cluster.render.options import DEFAULT_NATS_URL, BrokerClass

from .conftest import Needs, running, until
from .test_event import GROUPS, SAMPLE, ask, sink

SECRET = "relume-nats"
GATEWAY = "relume-gateway"


@pytest.fixture
def gateway_image() -> str:
    found = os.environ.get("RELUME_TEST_GATEWAY_IMAGE")
    if not found:
        pytest.skip("nothing is run: RELUME_TEST_GATEWAY_IMAGE names no image of relume-gateway")
    return found


@pytest.fixture
def nats_url(api: KubernetesApi) -> str:
    """Where NATS is. Skips where the name is a Service's that the cluster does not have."""
    url = os.environ.get("RELUME_TEST_NATS_URL", DEFAULT_NATS_URL)
    name, namespace, kind, *_ = [*(urlsplit(url).hostname or "").split("."), "", "", ""]
    if kind == "svc" and api.get(f"/api/v1/namespaces/{namespace}/services/{name}") is None:
        pytest.skip(f"the cluster has no NATS: there is no Service {namespace}/{name}")
    return url


def test_an_event_of_a_trigger_is_stored_and_answered_by_the_gateway(
    api: KubernetesApi,
    writer: ClusterWriter,
    needs: Needs,
    image: str,
    gateway_image: str,
    nats_url: str,
    namespace: str,
    tmp_path: Path,
) -> None:
    needs(*GROUPS)
    credentials = os.environ.get("RELUME_TEST_NATS_CREDS")
    options = Options(
        broker=cast(BrokerClass, os.environ.get("RELUME_TEST_BROKER", "mt")),
        images=Images({"relume-vllm-cpu": image, GATEWAY: gateway_image}),
        gateway=GatewayOptions(
            nats_urls=(nats_url,),
            nats_credentials_secret=None if credentials is None else SECRET,
            namespace=namespace,
        ),
    )
    source = read_source([in_namespace(namespace, tmp_path)], options)
    broker = next(one.name for one in source.manifests if one.kind == "Broker")
    more = sink(image, namespace, broker)
    if credentials is not None:
        more.append(ClusterManifest(_secret(namespace, Path(credentials)), "the tests"))
    with running(Source(in_order([*source.manifests, *more]), source.patches), writer):
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{GATEWAY}"
        until("two gateways", lambda: part(api.get(path), "status", "readyReplicas") == 2, 300)
        ask(api, namespace, broker)


def in_namespace(namespace: str, folder: Path) -> Path:
    """The sample, with the namespace in each document: the gateway's paths name it."""
    file = Path(os.environ.get("RELUME_TEST_MANIFEST", SAMPLE))
    documents = [one for one in yaml.safe_load_all(file.read_text()) if one]
    for document in documents:
        document["metadata"]["namespace"] = namespace
    changed = folder / "sample.yaml"
    changed.write_text(yaml.safe_dump_all(documents))
    return changed


def _secret(namespace: str, file: Path) -> Json:
    metadata = {"name": SECRET, "namespace": namespace}
    data = {"nats.creds": base64.b64encode(file.read_bytes()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
