"""Why a pod gets no device, where the scheduler says it in one general sentence."""

from typing import Any

import pytest

from relume.cluster.apply.api import Forbidden
from relume.cluster.apply.devices import NotExplained, explain_pod

from . import world

IMPLICIT = "deviceclass.resource.kubernetes.io/"


class Listed:
    """An API that has only lists."""

    def __init__(self, **lists: Any) -> None:
        self._lists = lists

    def list(self, path: str, **query: str) -> Any:
        found = self._lists.get(path.rpartition("/")[2], ())
        if isinstance(found, Exception):
            raise found
        return found

    def get(self, path: str) -> Any:
        raise AssertionError(path)

    change = allowed = get


def cluster(**lists: Any) -> Listed:
    nodes = [{"metadata": {"name": "node-1"}}]
    return Listed(**{"resourceslices": [world.slice_("80Gi")], "nodes": nodes, **lists})


def class_(name: str, expression: str) -> dict[str, Any]:
    selectors = [{"cel": {"expression": expression}}]
    return {"metadata": {"name": name}, "spec": {"selectors": selectors}}


def asking(resource: str, amount: str = "1") -> dict[str, Any]:
    pod = world.pod(ready=False)
    pod["spec"]["containers"][0]["resources"] = {"limits": {resource: amount}}
    return pod


def test_a_class_that_is_not_there_is_named() -> None:
    (report,) = explain_pod(cluster(), asking(f"{IMPLICIT}nope"))
    assert (report.answer, report.sentence) == (
        "unsatisfiable",
        "the cluster has no DeviceClass nope",
    )


def test_a_class_that_ships_with_us_must_be_on_the_cluster_too() -> None:
    (report,) = explain_pod(cluster(), asking(f"{IMPLICIT}llm-gpu-24g"))
    assert report.sentence == "the cluster has no DeviceClass llm-gpu-24g"


def test_a_selector_that_fails_is_named_with_its_device() -> None:
    bad = class_("badkey", "device.attributes['gpu.nvidia.com'].nokey == 'x'")
    (report,) = explain_pod(cluster(deviceclasses=[bad]), asking(f"{IMPLICIT}badkey"))
    assert report.answer == "aborts"
    assert "class badkey selector 0 on device node-1/gpu-0: no such key: nokey" in report.sentence


def test_more_devices_than_there_are_is_said_with_the_number() -> None:
    any_ = class_("any", "device.driver == 'gpu.nvidia.com'")
    (report,) = explain_pod(cluster(deviceclasses=[any_]), asking(f"{IMPLICIT}any", "2"))
    assert (report.answer, "only 1" in report.sentence) == ("unsatisfiable", True)


def test_a_claim_of_a_template_is_explained_by_the_pod_that_waits_for_it() -> None:
    asked = {"name": "device", "exactly": {"deviceClassName": "big"}}
    spec = {"devices": {"requests": [asked]}}
    metadata = {"name": "t", "namespace": "models"}
    pod = world.pod(ready=False, resourceClaims=[{"name": "d", "resourceClaimTemplateName": "t"}])
    pod["spec"]["containers"][0]["resources"] = {"claims": [{"name": "d"}]}
    big = class_("big", "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('90Gi')) >= 0")
    (report,) = explain_pod(
        cluster(
            deviceclasses=[big],
            resourceclaimtemplates=[{"metadata": metadata, "spec": {"spec": spec}}],
        ),
        pod,
    )
    assert report.answer == "unsatisfiable" and "90Gi" in report.sentence


def test_an_inventory_that_may_not_be_read_explains_nothing() -> None:
    with pytest.raises(NotExplained, match="resourceslices"):
        explain_pod(cluster(resourceslices=Forbidden("resourceslices")), asking(f"{IMPLICIT}any"))


def test_a_slice_that_is_not_what_the_api_has_explains_nothing() -> None:
    broken = world.slice_("80 gigabytes")
    with pytest.raises(NotExplained, match=r"ResourceSlice node-1.*memory"):
        explain_pod(cluster(resourceslices=[broken]), asking(f"{IMPLICIT}llm-gpu-24g"))
