"""Which devices a claim gets: the rules of the structured-parameters allocator, one by one."""

from relume.cluster.claims.explain import ClaimReport
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
)

A, B, C, D = (device(name) for name in "abcd")


def test_the_first_devices_in_the_order_of_the_slice_are_taken() -> None:
    report = explained(claim(request(count=2)), resource_slice("node", [C, A, B]))
    assert held(report) == ["c", "a"]


def test_a_device_is_given_once() -> None:
    asked = claim(request("one"), request("two"))
    assert held(explained(asked, resource_slice("node", [A, B]))) == ["a", "b"]
    unsatisfiable(explained(asked, resource_slice("node", [A])), "2 requests at once")


def test_all_devices_of_a_claim_are_on_one_node() -> None:
    slices = resource_slice("n1", [A]), resource_slice("n2", [A, B])
    report = explained(claim(request(count=2)), *slices)
    assert report.witness is not None
    assert report.witness.node == "n2"
    unsatisfiable(explained(claim(request(count=3)), *slices), "only 2")


def test_an_earlier_request_gives_way_to_a_later_one() -> None:
    big = device("big", {"size": 2})
    asked = claim(request("any"), request("big", f"device.attributes['{DRIVER}'].size == 2"))
    report = explained(asked, resource_slice("node", [big, device("small", {"size": 1})]))
    assert held(report) == ["small", "big"]


def test_all_takes_every_match_and_needs_at_least_one() -> None:
    asked = claim(request(allocationMode="All"))
    assert held(explained(asked, resource_slice("node", [A, B, C]))) == ["a", "b", "c"]
    none = claim(request("gpu", "false", allocationMode="All"))
    unsatisfiable(explained(none, resource_slice("node", [A])), "a device that matches")


def test_all_fails_when_one_match_is_taken() -> None:
    asked = claim(request("one"), request("rest", allocationMode="All"))
    assert explained(asked, resource_slice("node", [A, B])).answer == "unsatisfiable"


def test_a_claim_holds_at_most_32_devices() -> None:
    devices = [device(f"d{i}") for i in range(40)]
    inventory = resource_slice("node", devices)
    assert explained(claim(request(count=32)), inventory).answer == "satisfiable"
    assert explained(claim(request(count=33)), inventory).answer == "unsatisfiable"
    assert explained(claim(request(allocationMode="All")), inventory).answer == "unsatisfiable"


class TestFirstAvailable:
    def test_the_first_alternative_that_fits_is_taken(self) -> None:
        alternatives = [
            {"name": "four", "deviceClassName": "any", "count": 4},
            {"name": "two", "deviceClassName": "any", "count": 2},
            {"name": "one", "deviceClassName": "any"},
        ]
        asked = claim({"name": "gpu", "firstAvailable": alternatives})
        report = explained(asked, resource_slice("node", [A, B, C]))
        assert held(report) == ["a", "b"]
        assert report.witness is not None
        assert report.witness.devices[0][1] == "gpu/two"

    def test_a_later_request_makes_an_earlier_one_take_its_next_alternative(self) -> None:
        alternatives = [
            {"name": "three", "deviceClassName": "any", "count": 3},
            {"name": "one", "deviceClassName": "any"},
        ]
        asked = claim({"name": "gpu", "firstAvailable": alternatives}, request("more"))
        assert held(explained(asked, resource_slice("node", [A, B, C]))) == ["a", "b"]

    def test_what_every_alternative_lacks_is_said(self) -> None:
        alternatives = [
            {"name": "two", "deviceClassName": "any", "count": 2},
            {
                "name": "odd",
                "deviceClassName": "any",
                "selectors": [{"cel": {"expression": "1 == 2"}}],
            },
        ]
        asked = claim({"name": "gpu", "firstAvailable": alternatives})
        unsatisfiable(explained(asked, resource_slice("node", [A])), "two: 2 devices that match")


class TestConstraints:
    devices = tuple(
        device(name, {"root": root, "model": "m"})
        for name, root in (("a", "r1"), ("b", "r2"), ("c", "r2"), ("d", "r1"))
    )

    def constrained(self, kind: str, attribute: str, **fields: object) -> ClaimReport:
        constraint = {kind: f"{DRIVER}/{attribute}", **fields}
        asked = claim(request(count=2), constraints=[constraint])
        return explained(asked, resource_slice("node", self.devices))

    def test_match_attribute_takes_devices_that_share_the_value(self) -> None:
        assert held(self.constrained("matchAttribute", "root")) == ["a", "d"]

    def test_distinct_attribute_takes_devices_that_differ(self) -> None:
        assert held(self.constrained("distinctAttribute", "root")) == ["a", "b"]

    def test_it_says_which_attribute_no_devices_share(self) -> None:
        asked = claim(request(count=3), constraints=[{"matchAttribute": f"{DRIVER}/root"}])
        report = explained(asked, resource_slice("node", self.devices))
        unsatisfiable(report, f"no node has 3 devices that share {DRIVER}/root")

    def test_it_says_in_which_attribute_no_devices_differ(self) -> None:
        report = self.constrained("distinctAttribute", "model")
        unsatisfiable(report, f"no node has 2 devices that differ in {DRIVER}/model")

    def test_a_device_without_the_attribute_never_fits(self) -> None:
        report = self.constrained("matchAttribute", "nosuch")
        unsatisfiable(report, f"a matching device with the attribute {DRIVER}/nosuch")

    def test_a_constraint_concerns_only_the_requests_it_names(self) -> None:
        constraint = {"matchAttribute": f"{DRIVER}/root", "requests": ["two"]}
        asked = claim(request("one"), request("two", count=2), constraints=[constraint])
        assert held(explained(asked, resource_slice("node", self.devices))) == ["a", "b", "c"]

    def test_it_can_name_one_alternative_of_a_request(self) -> None:
        alternatives = [
            {"name": "three", "deviceClassName": "any", "count": 3},
            {"name": "two", "deviceClassName": "any", "count": 2},
        ]
        constraint = {"matchAttribute": f"{DRIVER}/root", "requests": ["gpu/three"]}
        asked = claim({"name": "gpu", "firstAvailable": alternatives}, constraints=[constraint])
        assert held(explained(asked, resource_slice("node", self.devices))) == ["a", "b"]

    def test_lists_match_when_they_have_a_value_in_common(self) -> None:
        """KEP-5491: all devices must share one value of a list attribute."""
        lists = {"a": ["x", "y"], "b": ["y"], "c": ["x"]}
        devices: list[Json] = [
            {"name": name, "attributes": {"roots": {"strings": values}}}
            for name, values in lists.items()
        ]
        asked = claim(request(count=2), constraints=[{"matchAttribute": f"{DRIVER}/roots"}])
        assert held(explained(asked, resource_slice("node", devices))) == ["a", "b"]
        three = claim(request(count=3), constraints=[{"matchAttribute": f"{DRIVER}/roots"}])
        assert explained(three, resource_slice("node", devices)).answer == "unsatisfiable"


class TestPools:
    """KEP-4381: only the newest generation of a complete pool counts."""

    def versioned(self, name: str, generation: int, count: int, *devices: Json) -> Json:
        pool = {"name": "node", "generation": generation, "resourceSliceCount": count}
        made = resource_slice("node", devices, pool=pool)
        made["metadata"] = {"name": name}
        return made

    def test_an_older_generation_is_ignored(self) -> None:
        slices = self.versioned("old", 1, 1, A, B), self.versioned("new", 2, 1, C)
        assert held(explained(claim(request()), *slices)) == ["c"]
        assert explained(claim(request(count=2)), *slices).answer == "unsatisfiable"

    def test_an_incomplete_pool_offers_nothing(self) -> None:
        report = explained(claim(request()), self.versioned("half", 1, 2, A))
        unsatisfiable(report, "1 of 2 slices of generation 1 are there")

    def test_an_incomplete_pool_stops_a_request_for_all(self) -> None:
        half = self.versioned("half", 1, 2, A)
        whole = resource_slice("node", [B], driver="other.example.com")
        assert held(explained(claim(request()), half, whole)) == ["b"]
        report = explained(claim(request(allocationMode="All")), half, whole)
        assert report.answer == "unsatisfiable"

    def test_a_pool_with_a_name_twice_offers_nothing(self) -> None:
        report = explained(claim(request()), resource_slice("node", [A, A]))
        unsatisfiable(report, "the device name a is there twice")


class TestNodes:
    def node(self, name: str, **labels: str) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
        }

    def test_a_slice_for_all_nodes_is_on_each(self) -> None:
        shared = resource_slice("pool", [A], nodeName=None, allNodes=True)
        report = explained(claim(request()), shared, self.node("n1"), self.node("n2"))
        assert report.sentence == "2 of 2 nodes can serve it"

    def test_a_node_selector_chooses_nodes_by_label(self) -> None:
        terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]
        selector = {"nodeSelectorTerms": terms}
        shared = resource_slice("pool", [A], nodeName=None, nodeSelector=selector)
        report = explained(
            claim(request()), shared, self.node("n1", zone="a"), self.node("n2", zone="b")
        )
        assert report.witness is not None
        assert report.witness.node == "n2"

    def test_a_device_can_choose_its_own_node(self) -> None:
        devices = [device("a", nodeName="n2"), device("b", nodeName="n1")]
        made = resource_slice("pool", devices, nodeName=None, perDeviceNodeSelection=True)
        report = explained(claim(request(count=1)), made)
        assert report.sentence == "2 of 2 nodes can serve it"


class TestErrors:
    def test_a_key_that_a_device_lacks_stops_the_scheduler(self) -> None:
        asked = claim(request("gpu", f"device.attributes['{DRIVER}'].index == 0"))
        report = explained(asked, resource_slice("node", [A]))
        assert report.answer == "aborts"
        assert "request gpu selector 0 on device node/a: no such key: index" in report.sentence

    def test_not_when_enough_devices_come_before_it(self) -> None:
        """The scheduler evaluates a device only when it comes to it."""
        asked = claim(request("gpu", f"device.attributes['{DRIVER}'].good"))
        devices = [device("a", {"good": True}), B]
        assert explained(asked, resource_slice("node", devices)).answer == "satisfiable"
        assert explained(asked, resource_slice("node", devices[::-1])).answer == "aborts"

    def test_a_vain_try_of_the_scheduler_can_come_to_it(self) -> None:
        """Device a has its root alone, so the scheduler looks at all others before it is left."""
        read = f"device.attributes['{DRIVER}'].good"
        devices = [
            device(name, {"good": True, "root": root})
            for name, root in (("a", "r1"), ("b", "r2"), ("c", "r2"))
        ]
        constraint = {"matchAttribute": f"{DRIVER}/root"}
        asked = claim(request("gpu", read, count=2), constraints=[constraint])
        assert held(explained(asked, resource_slice("node", devices))) == ["b", "c"]
        report = explained(asked, resource_slice("node", [*devices, device("d", {"root": "r2"})]))
        assert report.answer == "aborts"

    def test_a_guard_makes_it_no_match(self) -> None:
        read = f"device.attributes['{DRIVER}'].good"
        asked = claim(request("gpu", f"has({read}) && {read}"))
        devices = [B, device("a", {"good": True})]
        assert held(explained(asked, resource_slice("node", devices))) == ["a"]

    def test_a_class_that_nobody_knows_is_said(self) -> None:
        asked = claim({"name": "gpu", "exactly": {"deviceClassName": "nosuch"}})
        report = explained(asked, resource_slice("node", [A]))
        unsatisfiable(report, "the DeviceClass nosuch is not in the files read")


def test_distinct_means_all_different_not_only_neighbours() -> None:
    roots = [device(name, {"root": root}) for name, root in (("a", 1), ("b", 2), ("c", 1))]
    asked = claim(request(count=3), constraints=[{"distinctAttribute": f"{DRIVER}/root"}])
    assert explained(asked, resource_slice("node", roots)).answer == "unsatisfiable"


def test_a_search_without_end_is_given_up_and_said() -> None:
    """Two constraints that no shortcut sees through: 3 of 40 devices in a ring."""
    devices = [device(f"d{i}", {"x": i, "y": i // 2, "z": (i + 1) // 2}) for i in range(40)]
    constraints: list[Json] = [
        {"distinctAttribute": f"{DRIVER}/{name}"} for name in ("x", "y", "z")
    ]
    asked = claim(
        request("many", count=12),
        request("none", f"device.attributes['{DRIVER}'].x == 0"),
        request("more", f"device.attributes['{DRIVER}'].x == 1"),
        constraints=constraints,
    )
    report = explained(asked, resource_slice("node", devices))
    assert report.answer == "undecided"
    assert "too many combinations" in report.sentence
