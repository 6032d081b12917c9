"""From Pods and services to the claims that the scheduler makes for them."""

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.claims.claim import Claim
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.classes import device_class as read_class
from relume.cluster.claims.workloads import Unit, units
from tests.cluster.claims.building import Json, claim, device_class, document, request

IMPLICIT = "deviceclass.resource.kubernetes.io/"
POD: Json = {"containers": [{"name": "c", "resources": {"limits": {f"{IMPLICIT}a": "2"}}}]}


def workload(kind: str, api: str, spec: Json, **annotations: str) -> Json:
    metadata = {"name": "w", "namespace": "ns", "annotations": annotations}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}


def read(*given: Json, classes: tuple[Json, ...] = ()) -> list[Unit]:
    known = Classes.of(read_class(document(one)) for one in classes)
    return units([document(one) for one in given], [], known)


def asked(found: Claim) -> list[tuple[str, str, int]]:
    return [(r.name, r.asks[0].class_name, r.asks[0].count) for r in found.requests]


@pytest.mark.parametrize(
    "given",
    [
        workload("Pod", "v1", POD),
        workload("Deployment", "apps/v1", {"template": {"spec": POD}}),
        workload("Job", "batch/v1", {"template": {"spec": POD}}),
        workload("CronJob", "batch/v1", {"jobTemplate": {"spec": {"template": {"spec": POD}}}}),
        workload("Service", "serving.knative.dev/v1", {"template": {"spec": POD}}),
        workload("InferenceService", "serving.kserve.io/v1beta1", {"predictor": POD}),
    ],
    ids=lambda given: str(given["kind"]),
)
def test_limits_become_one_claim_of_the_pod(given: Json) -> None:
    """KEP-5004: request container-<i>-request-<j>, as many devices as the limit."""
    [unit] = read(given)
    [found] = unit.claims
    assert asked(found) == [("container-0-request-0", "a", 2)]


def test_the_model_of_a_predictor_is_a_container() -> None:
    model = {"modelFormat": {"name": "vLLM"}, "resources": {"limits": {f"{IMPLICIT}a": 1}}}
    [unit] = read(
        workload("InferenceService", "serving.kserve.io/v1beta1", {"predictor": {"model": model}})
    )
    assert asked(unit.claims[0]) == [("container-0-request-0", "a", 1)]
    assert unit.title == "InferenceService ns/w predictor"


def test_each_component_is_a_pod_of_its_own() -> None:
    spec = {"predictor": POD, "transformer": POD}
    found = read(workload("InferenceService", "serving.kserve.io/v1beta1", spec))
    assert [unit.title.split()[-1] for unit in found] == ["predictor", "transformer"]


def test_all_containers_share_one_claim() -> None:
    containers = [
        {"resources": {"limits": {f"{IMPLICIT}a": 1, "cpu": 2, f"{IMPLICIT}b": 1}}},
        {"resources": {"requests": {f"{IMPLICIT}a": 3}}},
    ]
    [unit] = read(workload("Pod", "v1", {"containers": containers}))
    assert asked(unit.claims[0]) == [
        ("container-0-request-0", "a", 1),
        ("container-0-request-1", "b", 1),
        ("container-1-request-0", "a", 3),
    ]


def test_an_extended_resource_name_leads_to_its_class() -> None:
    pod = {"containers": [{"resources": {"limits": {"example.com/gpu": 1}}}]}
    own = device_class("mine", extendedResourceName="example.com/gpu")
    [unit] = read(workload("Pod", "v1", pod), classes=(own,))
    assert asked(unit.claims[0])[0][1] == "mine"


def test_the_newest_class_of_two_serves_the_resource() -> None:
    """KEP-5004: the newest; the first by name when they are equally old."""
    pod = {"containers": [{"resources": {"limits": {"example.com/gpu": 1}}}]}
    made = []
    for name, created in (("a", "2026-01-01"), ("b", "2026-02-01"), ("c", "2026-02-01")):
        one = device_class(name, extendedResourceName="example.com/gpu")
        one["metadata"] = {"name": name, "creationTimestamp": f"{created}T00:00:00Z"}
        made.append(one)
    [unit] = read(workload("Pod", "v1", pod), classes=tuple(made))
    assert asked(unit.claims[0])[0][1] == "b"


def test_nvidias_own_class_serves_its_resource_where_no_document_says_otherwise() -> None:
    pod = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 1}}}]}
    [unit] = read(workload("Pod", "v1", pod))
    assert asked(unit.claims[0])[0][1] == "gpu.nvidia.com"


def test_a_resource_that_no_class_serves_is_a_note() -> None:
    pod = {"containers": [{"resources": {"limits": {"example.com/fpga": 1}}}]}
    [unit] = read(workload("Pod", "v1", pod))
    assert unit.claims == ()
    assert "a device plugin must serve it" in unit.notes[0]


def test_half_a_device_is_refused() -> None:
    pod = {"containers": [{"resources": {"limits": {f"{IMPLICIT}a": "500m"}}}]}
    with pytest.raises(InvalidManifest, match="whole number of devices") as caught:
        read(workload("Pod", "v1", pod))
    assert caught.value.field == f"spec.containers[0].resources.limits.{IMPLICIT}a"


TEMPLATE: Json = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "t", "namespace": "ns"},
    "spec": {"spec": {"devices": {"requests": [request()]}}},
}
CLAIMING: Json = {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}


class TestNamedClaims:
    def test_a_template_is_judged_with_the_pod_that_names_it(self) -> None:
        [unit] = read(TEMPLATE, workload("Pod", "v1", CLAIMING))
        assert unit.title == "Pod ns/w"
        assert [found.name for found in unit.claims] == ["t"]

    def test_alone_it_is_judged_by_itself(self) -> None:
        other = workload("Pod", "v1", {"containers": []})
        assert [u.title for u in read(TEMPLATE, other)] == ["ResourceClaimTemplate ns/t"]

    def test_a_name_that_is_not_there_is_a_note(self) -> None:
        [unit] = read(workload("Pod", "v1", CLAIMING))
        assert unit.notes == ("ResourceClaimTemplate ns/t is not in the files read",)

    def test_knative_drops_it_and_that_is_said(self) -> None:
        service = workload("InferenceService", "serving.kserve.io/v1beta1", {"predictor": CLAIMING})
        [template, unit] = sorted(read(TEMPLATE, service), key=lambda u: u.claims == ())
        assert template.title.startswith("ResourceClaimTemplate")
        assert "the pod gets no device" in unit.notes[0]

    def test_standard_mode_keeps_it(self) -> None:
        mode = {"serving.kserve.io/deploymentMode": "Standard"}
        service = workload(
            "InferenceService", "serving.kserve.io/v1beta1", {"predictor": CLAIMING}, **mode
        )
        [unit] = read(TEMPLATE, service)
        assert [found.name for found in unit.claims] == ["t"]

    def test_a_claim_that_is_allocated_is_not_allocated_again(self) -> None:
        held = claim(request(), name="c")
        held["metadata"] = {"name": "c", "namespace": "ns"}
        held["status"] = {"allocation": {"devices": {"results": []}}}
        pod = {"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}
        [unit] = read(held, workload("Pod", "v1", pod))
        assert unit.notes == ("ResourceClaim ns/c is allocated already",)
