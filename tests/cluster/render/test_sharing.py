"""Several services on one device: what `relume.dev/share` makes, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.claims.documents import Document
from relume.cluster.claims.workloads import units
from relume.cluster.render import Images, Options, Rendering
from tests.cluster.render.cases import DIGEST
from tests.cluster.render.rendering import GPU, find, limits, render_text, service

SHARE = "relume.dev/share: "
CLASS = "deviceclass.resource.kubernetes.io/"
MEMORY = SHARE + "memory=6Gi"
ONE_CLAIM = SHARE + "'claim=small,memory=6Gi'"


def env_of(rendering: Rendering, name: str = "chat") -> list[Any]:
    found: list[Any] = find(rendering, "InferenceService", name)["spec"]["predictor"]["model"][
        "env"
    ]
    return found


@pytest.mark.parametrize("route", ["extended-resource", "admission"])
def test_a_part_of_the_memory_is_a_claim_with_capacity(route: Any, tmp_path: Path) -> None:
    text = service(model=GPU, annotations=MEMORY)
    rendering = render_text(tmp_path, text, options=Options(route))
    template = find(rendering, "ResourceClaimTemplate")
    [request] = template["spec"]["spec"]["devices"]["requests"]
    asked = {"deviceClassName": "llm-gpu-24g", "capacity": {"requests": {"memory": "6144Mi"}}}
    assert request == {"name": "device", "exactly": asked}
    made = find(rendering, "InferenceService")
    assert made["metadata"]["annotations"]["relume.dev/claim-template"] == "chat-devices"
    assert "relume.dev/share" not in made["metadata"]["annotations"]
    assert {"name": "RELUME_DEVICE_MEMORY_MIB", "value": "6144"} in env_of(rendering)
    assert find(rendering, "MutatingAdmissionPolicy")["metadata"]["name"] == "relume-claims"
    notes = " ".join(str(note) for note in rendering.notes)
    assert "nothing enforces it" in notes and "consumableShares=memory" in notes
    assert ("cannot be asked for by an extended resource" in notes) == (route != "admission")


def test_each_alternative_has_the_share(tmp_path: Path) -> None:
    notes = f"{MEMORY}, relume.dev/fallbacks: llm-gpu-16g"
    rendering = render_text(tmp_path, service(model=GPU, annotations=notes))
    [request] = find(rendering, "ResourceClaimTemplate")["spec"]["spec"]["devices"]["requests"]
    assert [one["capacity"]["requests"] for one in request["firstAvailable"]] == [
        {"memory": "6144Mi"}
    ] * 2


@pytest.mark.parametrize("route", ["admission", "standard"])
def test_services_that_name_a_claim_share_one(route: Any, tmp_path: Path) -> None:
    one = service(model=GPU, annotations=ONE_CLAIM)
    other = one.replace("name: chat", "name: other")
    rendering = render_text(tmp_path, one, other, options=Options(route))
    claim = find(rendering, "ResourceClaim")
    assert claim["metadata"]["name"] == "small"
    [request] = claim["spec"]["devices"]["requests"]
    assert request == {"name": "device", "exactly": {"deviceClassName": "llm-gpu-24g"}}
    for name in ("chat", "other"):
        made = find(rendering, "InferenceService", name)
        if route == "admission":
            assert made["metadata"]["annotations"]["relume.dev/claim"] == "small"
        else:
            [named] = made["spec"]["predictor"]["resourceClaims"]
            assert named == {"name": "device", "resourceClaimName": "small"}
    if route == "admission":
        policy = find(rendering, "MutatingAdmissionPolicy")
        assert policy["metadata"]["name"] == "relume-shared-claims"
        [mutation] = policy["spec"]["mutations"]
        assert "resourceClaimName: object" in mutation["applyConfiguration"]["expression"]
    assert "take turns on one device" in " ".join(str(note) for note in rendering.notes)


def test_a_claim_that_the_user_wrote_is_used(tmp_path: Path) -> None:
    own = (
        "{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {name: small},\n"
        " spec: {devices: {requests: [{name: gpu, exactly: {deviceClassName: mine}}]}}}\n"
    )
    rendering = render_text(tmp_path, service(model=GPU, annotations=ONE_CLAIM), own)
    [request] = find(rendering, "ResourceClaim")["spec"]["devices"]["requests"]
    assert request["exactly"]["deviceClassName"] == "mine"


def test_what_is_rendered_is_one_unit_for_each_service(tmp_path: Path) -> None:
    one = service(model=GPU, annotations=ONE_CLAIM)
    both = render_text(tmp_path, one, one.replace("name: chat", "name: other"))
    from relume.cluster.claims.classes import Classes

    read = [
        Document(Path(file), 0, document)
        for file, documents in both.documents.items()
        for document in documents
    ]
    found = units(read, [], Classes.of([]))
    assert [(unit.title, [claim.name for claim in unit.claims]) for unit in found] == [
        ("InferenceService default/chat predictor", ["small"]),
        ("InferenceService default/other predictor", ["small"]),
    ]


@pytest.mark.parametrize(
    ("model", "annotation", "why"),
    [
        (GPU, "memory", "write memory=6Gi, shares=2 or claim=NAME"),
        (GPU, "memory=6", "write whole MiB"),
        (GPU, "memory=lots", "not a quantity"),
        (GPU, "shares=0", "whole numbers from 1"),
        (GPU, "'claim=small,shares=2'", "not both"),
        (GPU, "claim=Small", "lower case"),
        (GPU, "claim=small", "relume claims size says how much"),
        (GPU, "shares=2", "relume claims size says how much"),
        ("args: []", "memory=6Gi", "stands beside one device"),
        (limits(CLASS + "llm-tpu-v6e"), "memory=6Gi", "opened by one process alone"),
    ],
)
def test_a_share_that_cannot_work_is_refused(
    model: str, annotation: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidManifest, match=why) as error:
        render_text(tmp_path, service(model=model, annotations=SHARE + annotation))
    assert error.value.field == "metadata.annotations.relume.dev/share"


def test_one_claim_has_one_set_of_devices(tmp_path: Path) -> None:
    other = service(model=limits(CLASS + "llm-gpu-40g"), annotations=ONE_CLAIM)
    with pytest.raises(InvalidManifest, match="another service asks for other devices"):
        render_text(
            tmp_path,
            service(model=GPU, annotations=ONE_CLAIM),
            other.replace("name: chat", "name: other"),
        )


class TestVendors:
    """A pod has one image, and its claim is allocated later."""

    across = "relume.dev/fallbacks: 'llm-amd-64g, llm-gpu-16g=2'"

    def test_alternatives_of_two_vendors_are_refused_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidManifest) as error:
            render_text(tmp_path, service(model=GPU, annotations=self.across))
        assert "relume-vllm for NVIDIA, relume-vllm-amd for AMD" in str(error.value)
        assert "one InferenceService for each vendor" in str(error.value)

    @pytest.mark.parametrize("route", ["admission", "standard"])
    def test_one_image_for_both_makes_one_claim(self, route: Any, tmp_path: Path) -> None:
        both = f"images.example/both@{DIGEST}"
        images = Images({"relume-vllm": both, "relume-vllm-amd": both})
        text = service(model=GPU, annotations=self.across)
        rendering = render_text(tmp_path, text, options=Options(route, images=images))
        [request] = find(rendering, "ResourceClaimTemplate")["spec"]["spec"]["devices"]["requests"]
        asked = [one["deviceClassName"] for one in request["firstAvailable"]]
        assert asked == ["llm-gpu-24g", "llm-amd-64g", "llm-gpu-16g"]

    def test_images_that_differ_are_refused(self, tmp_path: Path) -> None:
        images = Images(
            {n: f"images.example/{n}@{DIGEST}" for n in ("relume-vllm", "relume-vllm-amd")}
        )
        with pytest.raises(InvalidManifest, match="need different images"):
            text = service(model=GPU, annotations=self.across)
            render_text(tmp_path, text, options=Options("admission", images=images))

    def test_a_runtime_of_the_users_own_has_its_own_image(self, tmp_path: Path) -> None:
        text = service(model=f"{GPU}, runtime: mine", annotations=self.across)
        rendering = render_text(tmp_path, text, options=Options("admission"))
        assert "must run on the devices of NVIDIA and AMD" in " ".join(map(str, rendering.notes))

    def test_a_service_for_each_vendor_gets_its_own_runtime(self, tmp_path: Path) -> None:
        amd = service(model=limits(CLASS + "llm-amd-64g")).replace("name: chat", "name: chat-amd")
        rendering = render_text(tmp_path, service(model=GPU), amd)
        for name, runtime in (("chat", "relume-vllm"), ("chat-amd", "relume-vllm-amd")):
            model = find(rendering, "InferenceService", name)["spec"]["predictor"]["model"]
            assert model["runtime"] == runtime
            assert find(rendering, "ClusterServingRuntime", runtime)

    def test_no_pod_falls_back_on_the_cpu(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidManifest, match="second InferenceService for the CPU"):
            notes = "relume.dev/fallbacks: cpu"
            render_text(tmp_path, service(model=GPU, annotations=notes))
