"""0 → 1 → 0 with a device: the pod holds its claim, and at zero the claim is gone."""

import uuid
from typing import Any

import pytest

from relume.base.vocabulary import CLAIM_TEMPLATE
from relume.cluster.apply.api import KubernetesApi, objects, text
from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter, Source, in_order
from relume.cluster.render.routes import POLICY
from tests.cluster.render.cases import rendered

from .conftest import Needs, count, running, until
from .stand_in import container

KSERVE = ("serving.kserve.io/v1beta1", "serving.knative.dev/v1", "resource.k8s.io/v1")
DRA = "resource.k8s.io/v1"


@pytest.fixture
def driver(api: KubernetesApi, needs: Needs) -> str:
    needs(*KSERVE)
    for one in api.list("/apis/resource.k8s.io/v1/resourceslices") or ():
        if objects(one, "spec", "devices"):
            return text(one, "spec", "driver")
    pytest.skip("no DRA driver publishes a device (no ResourceSlice has one)")


@pytest.fixture(params=["extended-resource", "admission"])
def source(request: pytest.FixtureRequest, driver: str, image: str, namespace: str) -> Source:
    name = f"relume-test-{uuid.uuid4().hex[:6]}"
    expression = {"cel": {"expression": f"device.driver == '{driver}'"}}
    made: list[dict[str, Any]] = [
        {
            "apiVersion": DRA,
            "kind": "DeviceClass",
            "metadata": {"name": name},
            "spec": {"selectors": [expression]},
        }
    ]
    annotations: dict[str, str] = {
        "serving.kserve.io/deploymentMode": "Knative",
        "autoscaling.knative.dev/window": "10s",
    }
    limits: dict[str, Any] = {}
    if request.param == "admission":
        annotations[CLAIM_TEMPLATE] = name
        asked = {"name": "device", "exactly": {"deviceClassName": name}}
        template = {"apiVersion": DRA, "kind": "ResourceClaimTemplate", "metadata": {"name": name}}
        made.append(template | {"spec": {"spec": {"devices": {"requests": [asked]}}}})
        made += _policy()
    else:
        limits = {f"deviceclass.resource.kubernetes.io/{name}": "1"}
    predictor = {
        "minReplicas": 0,
        "containers": [container("kserve-container", image, limits=limits)],
    }
    service = {"apiVersion": KSERVE[0], "kind": "InferenceService"}
    metadata = {"name": name, "annotations": annotations}
    made.append(service | {"metadata": metadata, "spec": {"predictor": predictor}})
    return Source(in_order(ClusterManifest(body, "the tests") for body in made))


def _policy() -> list[Any]:
    documents = rendered("samples-admission").documents["base/admission-policy.yaml"]
    assert documents[0]["metadata"]["name"] == POLICY  # type: ignore[call-overload,index]
    return list(documents)


def test_a_pod_holds_its_claim_and_at_zero_the_claim_is_gone(
    source: Source, writer: ClusterWriter, api: KubernetesApi, namespace: str
) -> None:
    claims = f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    with running(source, writer) as told:
        assert any("device: holds" in line for line in told.lines), told.text
        until("at zero", lambda: count(api, pods) == 0, 300)
        until("the claim is released", lambda: count(api, claims) == 0, 60)
