"""What a pod holds of what its service asks for."""

import pytest

from relume.base.vocabulary import CLAIM_TEMPLATE
from relume.cluster.apply.devices import DeviceNeed, holding, need_of

from . import world

NODES = {
    "node-1": {"status": {"capacity": {"cpu": "8", "nvidia.com/gpu": "1"}}},
    "node-2": {"status": {"capacity": {"cpu": "8", "nvidia.com/gpu": "0"}}},
}
PLUGIN = DeviceNeed(resources=("nvidia.com/gpu",))
CLASS = DeviceNeed(resources=("deviceclass.resource.kubernetes.io/llm-gpu-24g",))


@pytest.mark.parametrize(
    ("service", "need"),
    [
        ({"spec": {"predictor": {"model": {"resources": {"limits": {"cpu": "1"}}}}}}, DeviceNeed()),
        (
            {"spec": {"predictor": {"model": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}}},
            PLUGIN,
        ),
        ({"metadata": {"annotations": {CLAIM_TEMPLATE: "t"}}}, DeviceNeed(claim=True)),
        ({"spec": {"predictor": {"resourceClaims": [{"name": "d"}]}}}, DeviceNeed(claim=True)),
        (
            {"spec": {"predictor": {"containers": [{"resources": {"claims": [{"name": "d"}]}}]}}},
            DeviceNeed(claim=True),
        ),
    ],
)
def test_what_a_pod_needs_is_read_from_its_service(
    service: dict[str, object], need: DeviceNeed
) -> None:
    assert need_of(service) == need
    assert bool(need) == (need != DeviceNeed())


def asking(node: str) -> dict[str, object]:
    found = world.pod(ready=True)
    found["spec"]["nodeName"] = node
    found["spec"]["containers"][0]["resources"]["limits"] = {"nvidia.com/gpu": "1"}
    return found


def test_a_device_plugin_gives_devices_without_claims() -> None:
    assert holding(PLUGIN, asking("node-1"), {}, NODES).state == "holds"
    assert holding(PLUGIN, asking("node-2"), {}, NODES).state == "without"
    assert holding(PLUGIN, asking("node-1"), {}, None).state == "unknown"


def test_a_request_that_was_dropped_is_no_device_even_beside_a_plugin() -> None:
    pod = asking("node-1")
    pod["spec"]["containers"][0]["resources"] = {}  # type: ignore[index]
    assert holding(PLUGIN, pod, {}, NODES).state == "without"


def test_a_class_gives_devices_by_claims_alone() -> None:
    assert holding(CLASS, world.pod(ready=True), {}, NODES).state == "without"
    assert holding(CLASS, world.pod(ready=False), {}, NODES).state == "waits", "not scheduled"


def test_a_claim_must_be_allocated_and_reserved_for_the_pod() -> None:
    pod = world.pod(ready=True, claim="c", extended=False)
    assert holding(DeviceNeed(claim=True), pod, {}, {}).state == "waits"
    other = holding(DeviceNeed(claim=True), pod, {"c": world.claim("c", reserved="x")}, {})
    assert other.state == "waits"
    held = holding(DeviceNeed(claim=True), pod, {"c": world.claim("c")}, {})
    assert (held.state, held.detail, held.claims) == ("holds", "node-1/gpu-0", ("c",))


def test_a_claim_that_is_not_made_yet_is_waited_for() -> None:
    pod = world.pod(ready=False, resourceClaims=[{"name": "d", "resourceClaimTemplateName": "t"}])
    assert holding(DeviceNeed(claim=True), pod, {}, {}).state == "waits"


def test_a_pod_that_the_policy_missed_is_without_before_it_runs() -> None:
    assert holding(DeviceNeed(claim=True), world.pod(ready=False), {}, {}).state == "without"
