"""What keeps a device from a claim: partitions, shares, taints, other claims."""

import pytest

from tests.cluster.claims.building import (
    DRIVER,
    Json,
    claim,
    device,
    explained,
    held,
    request,
    resource_slice,
    unsatisfiable,
    used_by_another,
)

A, B = device("a"), device("b")


def counted(name: str, amount: int, **fields: object) -> Json:
    counters = [{"counterSet": "card", "counters": {"slices": {"value": str(amount)}}}]
    return device(name, consumesCounters=counters, **fields)


def in_two(first: Json, second: Json) -> tuple[Json, Json]:
    """Two slices of one pool."""
    pool = {"name": "node", "generation": 1, "resourceSliceCount": 2}
    for one, name in ((first, "1"), (second, "2")):
        one["spec"]["pool"] = pool
        one["metadata"]["name"] = name
    return first, second


def share(name: str = "a", memory: str = "10Gi", **policy: object) -> Json:
    held = {"value": memory, **({"requestPolicy": policy} if policy else {})}
    return device(name, allowMultipleAllocations=True, capacity={"memory": held})


def asks(name: str, memory: str) -> Json:
    return request(name, capacity={"requests": {"memory": memory}})


class TestPartitions:
    """KEP-4815: devices that draw on shared counters."""

    def pool(self, *devices: Json, there: int = 8) -> tuple[Json, Json]:
        sets = [{"name": "card", "counters": {"slices": {"value": str(there)}}}]
        counters = resource_slice("node", (), sharedCounters=sets)
        return in_two(counters, resource_slice("node", devices))

    def test_partitions_fit_while_the_counters_last(self) -> None:
        parts = [counted(name, 4) for name in "abc"]
        assert held(explained(claim(request(count=2)), *self.pool(*parts))) == ["a", "b"]
        report = explained(claim(request(count=3)), *self.pool(*parts))
        unsatisfiable(report, "counter sets card")

    def test_a_smaller_partition_is_found_where_a_larger_one_does_not_fit(self) -> None:
        parts = [counted("half", 4), counted("whole", 8), counted("other", 4)]
        assert held(explained(claim(request(count=2)), *self.pool(*parts))) == ["half", "other"]

    def test_a_partition_in_use_has_taken_its_share(self) -> None:
        parts = self.pool(counted("a", 4), counted("b", 8))
        assert explained(claim(request()), *parts, used_by_another()).answer == "unsatisfiable"

    def test_a_pool_without_the_counters_it_needs_offers_nothing(self) -> None:
        report = explained(claim(request()), resource_slice("node", [counted("a", 1)]))
        unsatisfiable(report, "consumes slices of card, which is not there")


class TestSharedDevices:
    """KEP-5075: devices that several claims and requests share by capacity."""

    def test_requests_share_a_device_up_to_its_capacity(self) -> None:
        inventory = resource_slice("node", [share()])
        both = claim(asks("one", "6Gi"), asks("two", "4Gi"))
        assert held(explained(both, inventory)) == ["a", "a"]
        more = claim(asks("one", "6Gi"), asks("two", "5Gi"))
        assert explained(more, inventory).answer == "unsatisfiable"

    def test_one_request_takes_different_devices(self) -> None:
        asked = claim(request("gpu", count=2, capacity={"requests": {"memory": "1Gi"}}))
        assert explained(asked, resource_slice("node", [share()])).answer == "unsatisfiable"

    def test_what_is_not_asked_for_costs_the_default_or_all(self) -> None:
        asked = claim(request("one"), request("two"))
        assert explained(asked, resource_slice("node", [share()])).answer == "unsatisfiable"
        cheap = resource_slice("node", [share(default="5Gi", validValues=["5Gi", "10Gi"])])
        assert held(explained(asked, cheap)) == ["a", "a"]

    @pytest.mark.parametrize(
        ("asked", "fits"), [("1Gi", True), ("3Gi", True), ("5Gi", True), ("7Gi", False)]
    )
    def test_an_amount_is_rounded_up_to_the_next_valid_one(self, asked: str, fits: bool) -> None:
        policy = {"default": "2Gi", "validRange": {"min": "2Gi", "max": "6Gi", "step": "2Gi"}}
        report = explained(claim(asks("gpu", asked)), resource_slice("node", [share(**policy)]))
        assert (report.answer == "satisfiable") is fits

    def test_rounding_up_can_be_too_much_for_two(self) -> None:
        policy = {"default": "1Gi", "validRange": {"min": "4Gi", "step": "4Gi"}}
        inventory = resource_slice("node", [share(**policy)])
        asked = claim(asks("one", "5Gi"), asks("two", "1Gi"))
        assert explained(asked, inventory).answer == "unsatisfiable"

    def test_shares_of_other_claims_count(self) -> None:
        other = claim(request(), name="other")
        result = {"request": "gpu", "driver": DRIVER, "pool": "node", "device": "a"}
        result |= {"shareID": "1", "consumedCapacity": {"memory": "8Gi"}}
        other["status"] = {"allocation": {"devices": {"results": [result]}}}
        inventory = resource_slice("node", [share()]), other
        assert explained(claim(asks("gpu", "2Gi")), *inventory).answer == "satisfiable"
        report = explained(claim(asks("gpu", "3Gi")), *inventory)
        unsatisfiable(report, "enough capacity left")

    def test_a_capacity_that_a_device_does_not_have_does_not_match(self) -> None:
        asked = claim(request("gpu", capacity={"requests": {"nosuch": "1"}}))
        report = explained(asked, resource_slice("node", [share()]))
        unsatisfiable(report, "1 without the capacity asked for")


class TestTaints:
    """KEP-5055."""

    tainted = device("a", taints=[{"key": "hot", "value": "yes", "effect": "NoSchedule"}])

    @pytest.mark.parametrize(
        ("toleration", "fits"),
        [
            ({"key": "hot", "operator": "Exists"}, True),
            ({"key": "hot", "operator": "Equal", "value": "yes"}, True),
            ({"key": "hot", "value": "no"}, False),
            ({"operator": "Exists"}, True),
            ({"key": "hot", "operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "cold", "operator": "Exists"}, False),
        ],
        ids=[
            "key exists",
            "key and value are equal",
            "another value",
            "anything is tolerated",
            "another effect",
            "another key",
        ],
    )
    def test_a_tainted_device_needs_a_toleration(self, toleration: Json, fits: bool) -> None:
        asked = claim(request(tolerations=[toleration]))
        report = explained(asked, resource_slice("node", [self.tainted]))
        assert (report.answer == "satisfiable") is fits

    def test_the_taint_is_named(self) -> None:
        report = explained(claim(request()), resource_slice("node", [self.tainted]))
        unsatisfiable(report, "1 tainted hot=yes:NoSchedule")

    def test_an_effect_of_none_keeps_nobody_away(self) -> None:
        taints = [{"key": "note", "effect": "None"}]
        asked = explained(claim(request()), resource_slice("node", [device("a", taints=taints)]))
        assert asked.answer == "satisfiable"

    def test_a_rule_taints_the_devices_it_selects(self) -> None:
        rule = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceTaintRule",
            "metadata": {"name": "rule"},
            "spec": {
                "deviceSelector": {"device": "a"},
                "taint": {"key": "hot", "effect": "NoExecute"},
            },
        }
        assert held(explained(claim(request()), resource_slice("node", [A, B]), rule)) == ["b"]


class TestInUse:
    def test_a_device_in_use_is_not_given_again(self) -> None:
        inventory = resource_slice("node", [A]), used_by_another()
        unsatisfiable(explained(claim(request()), *inventory), "in use by default/other")

    def test_admin_access_takes_it_all_the_same(self) -> None:
        inventory = resource_slice("node", [A]), used_by_another()
        assert held(explained(claim(request(adminAccess=True)), *inventory)) == ["a"]

    def test_admin_access_takes_a_device_once_for_a_claim(self) -> None:
        asked = claim(request("one", adminAccess=True), request("two", adminAccess=True))
        assert explained(asked, resource_slice("node", [A])).answer == "unsatisfiable"

    def test_the_selectors_of_a_device_in_use_are_not_evaluated(self) -> None:
        asked = claim(request("gpu", f"device.attributes['{DRIVER}'].good"))
        devices = [A, device("b", {"good": True})]
        assert explained(asked, resource_slice("node", devices)).answer == "aborts"
        assert held(explained(asked, resource_slice("node", devices), used_by_another())) == ["b"]
