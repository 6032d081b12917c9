"""Lints: each mistake is found with its place and a fix, and what is right passes."""

from pathlib import Path

import pytest

from relume.cluster.claims import documents
from relume.cluster.claims.devices import SliceReader
from relume.cluster.claims.drivers import DRIVERS
from relume.cluster.claims.findings import Found, sentence
from relume.cluster.claims.lints import lint, lint_nodes
from relume.cluster.claims.presets import PRESETS
from relume.cluster.findings import Finding
from relume.config.yaml_source import documents as nodes_of
from tests.cluster.claims.building import INVENTORIES, Json, claim, device_class, document

NVIDIA = "gpu.nvidia.com"
ATTRIBUTES = f"device.attributes['{NVIDIA}']"
CAPACITY = f"device.capacity['{NVIDIA}']"
OF_GPU = f"device.driver == '{NVIDIA}' && {ATTRIBUTES}.type == 'gpu'"


def found_in(*given: Json) -> list[Found]:
    return lint([document(one) for one in given])


def found(*given: Json) -> list[Finding]:
    return [finding for _, finding in found_in(*given)]


def in_class(*expressions: str) -> list[Finding]:
    return found(device_class("test", *expressions))


def reasons(findings: list[Finding]) -> list[str]:
    return [finding.reason for finding in findings]


class TestUnknownAttributes:
    @pytest.mark.parametrize(
        ("read", "fix"),
        [
            (f"{ATTRIBUTES}.index == 0", "did you mean uuid?"),
            (f"{ATTRIBUTES}.productname == 'x'", "did you mean productName?"),
            (f"{ATTRIBUTES}.model == 'x'", "did you mean productName?"),
            (f"{ATTRIBUTES}.memory == 'x'", f"read {CAPACITY}.memory"),
            (f"{CAPACITY}.profile == quantity('1')", f"read {ATTRIBUTES}.profile"),
            ("device.attributes['resource.kubernetes.io'].pcieroot == 'x'", "pcieRoot?"),
            ("device.attributes['tpu.google.com'].model == 'x'", "did you mean accelerator?"),
        ],
    )
    def test_a_name_that_the_driver_does_not_publish_is_found(self, read: str, fix: str) -> None:
        [finding] = in_class(OF_GPU, read)
        assert finding.reason == "unknown-attribute"
        assert fix in finding.fix
        assert finding.field == "spec.selectors[1].cel.expression"

    def test_the_version_that_had_it_is_named(self) -> None:
        [finding] = in_class(f"{OF_GPU} && {ATTRIBUTES}.index == 0")
        assert "up to v25.3" in finding.message
        assert "v0.5" in finding.message

    def test_a_constraint_is_looked_at_too(self) -> None:
        asked = claim(constraints=[{"matchAttribute": f"{NVIDIA}/numaNode"}])
        [finding] = found(asked)
        assert finding.field == "spec.devices.constraints[0].matchAttribute"

    def test_what_the_inventory_has_is_never_unknown(self) -> None:
        inventory = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "slice"},
            "spec": {
                "driver": NVIDIA,
                "pool": {"name": "node"},
                "devices": [{"name": "gpu-0", "attributes": {"index": {"int": 0}}}],
            },
        }
        expression = f"{OF_GPU} && has({ATTRIBUTES}.index) && {ATTRIBUTES}.index == 0"
        assert reasons(found(device_class("test", expression))) == ["unknown-attribute"] * 2
        assert found(device_class("test", expression), inventory) == []

    def test_a_type_that_no_device_has_is_found(self) -> None:
        [finding] = in_class(f"device.driver == '{NVIDIA}' && {ATTRIBUTES}.type == 'A100'")
        assert finding.reason == "unknown-type"
        assert "gpu or mig or vfio" in finding.message


class TestLabelSizes:
    @pytest.mark.parametrize(
        ("domain", "size", "instead"),
        [
            (NVIDIA, "80Gi", "79Gi"),
            (NVIDIA, "40Gi", "39Gi"),
            (NVIDIA, "24Gi", "22Gi"),
            ("gpu.amd.com", "192Gi", "191Gi"),
        ],
    )
    def test_the_number_on_the_box_is_found(self, domain: str, size: str, instead: str) -> None:
        read = f"device.capacity['{domain}'].memory"
        for test in (f"compareTo(quantity('{size}')) >= 0", f"isGreaterThan(quantity('{size}'))"):
            [finding] = in_class(f"device.driver == '{domain}' && has({read}) && {read}.{test}")
            assert finding.reason == "label-size-quantity"
            assert instead in finding.fix

    @pytest.mark.parametrize("size", ["79Gi", "64Gi", "80G", "10Gi"])
    def test_other_sizes_pass(self, size: str) -> None:
        assert in_class(f"{OF_GPU} && {CAPACITY}.memory.compareTo(quantity('{size}')) >= 0") == []


class TestGuards:
    @pytest.mark.parametrize(
        "expression",
        [
            f"{ATTRIBUTES}.type == 'gpu'",
            f"device.driver == '{NVIDIA}' && {ATTRIBUTES}.profile == '1g.5gb'",
            f"{OF_GPU} && {ATTRIBUTES}.profile == '1g.5gb'",
            f"{OF_GPU} && {ATTRIBUTES}.addressingMode == 'HMM'",
            f"{OF_GPU} && device.attributes['resource.kubernetes.io'].numaNode.includes(0)",
            "device.driver == 'tpu.google.com' && "
            "device.attributes['tpu.google.com'].topology == '2x2'",
        ],
    )
    def test_a_key_that_some_device_lacks_needs_a_guard(self, expression: str) -> None:
        assert reasons(in_class(expression)) == ["unguarded-key"]

    @pytest.mark.parametrize(
        "expression",
        [
            OF_GPU,
            f"{OF_GPU} && {ATTRIBUTES}.architecture == 'Hopper'",
            f"has({ATTRIBUTES}.profile) && {ATTRIBUTES}.profile == '1g.5gb'",
            f"{ATTRIBUTES}.?profile.orValue('') == '1g.5gb'",
            f"device.driver == '{NVIDIA}' && {ATTRIBUTES}.type == 'mig' && "
            f"{ATTRIBUTES}.profile == '1g.5gb'",
            "device.attributes['vendor.example.com'].?model.orValue('') == 'x'",
            "device.driver == 'vendor.example.com' && "
            "device.attributes['vendor.example.com'].model == 'x'",
        ],
    )
    def test_a_guarded_one_passes(self, expression: str) -> None:
        assert in_class(expression) == []

    def test_the_class_of_a_request_guards_what_the_request_reads(self) -> None:
        selector = {"cel": {"expression": f"{ATTRIBUTES}.architecture == 'Hopper'"}}
        exactly = {"deviceClassName": "gpu.nvidia.com", "selectors": [selector]}
        assert found(claim({"name": "gpu", "exactly": exactly})) == []

    def test_the_shipped_classes_have_no_mistake(self) -> None:
        assert found(*(preset.manifest() for preset in PRESETS.values())) == []


class TestNames:
    def test_a_class_name_of_64_characters_is_no_resource(self) -> None:
        [finding] = found(device_class("x" * 64))
        assert (finding.reason, finding.severity) == ("class-name-too-long", "warning")
        assert found(device_class("x" * 63)) == []

    def test_limits_that_use_one_are_an_error(self) -> None:
        resource = f"deviceclass.resource.kubernetes.io/{'x' * 64}"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"},
            "spec": {"containers": [{"resources": {"limits": {resource: "1"}}}]},
        }
        [finding] = found(pod)
        assert (finding.reason, finding.severity) == ("class-name-too-long", "error")
        assert finding.field.startswith("spec.containers[0].resources.limits.")

    def test_two_classes_with_one_resource_are_found(self) -> None:
        both = [
            device_class(name, extendedResourceName="nvidia.com/gpu") for name in ("one", "two")
        ]
        [(where, finding)] = found_in(*both)
        assert finding.reason == "extended-resource-twice"
        assert (where.name, "one" in finding.message) == ("two", True)


def test_a_device_plugin_beside_the_driver_is_found() -> None:
    [(_, finding)] = lint(documents.read(INVENTORIES / "mixed.yaml"))
    assert finding.reason == "served-twice"
    assert "node l4-1" in finding.message
    assert finding.line is not None
    assert finding.line > 1


def test_a_finding_names_file_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "class.yaml"
    file.write_text(
        "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: a}\nspec:\n"
        f'  selectors:\n  - cel:\n      expression: "{ATTRIBUTES}.index == 1"\n'
    )
    for findings in (lint(documents.read(file)), lint_nodes(nodes_of(file))):
        assert [finding.line for _, finding in findings] == [7]
        assert sentence(findings[0][1]).startswith(f"{file}:7: spec.selectors[0].cel.expression: ")


@pytest.mark.parametrize("file", sorted(INVENTORIES.glob("*.yaml")), ids=lambda f: f.stem)
def test_the_catalogue_knows_every_name_in_the_inventories(file: Path) -> None:
    slices = [d for d in documents.read(file) if d.kind == "ResourceSlice"]
    for one in map(SliceReader().read, slices):
        driver = DRIVERS[one.driver]
        for device in one.devices:
            for key in (*device.attributes, *device.capacity):
                domain, _, ident = key.partition("/")
                assert domain == "resource.kubernetes.io" or driver.publishes(ident), key


class TestWhatDriversDo:
    """NVIDIA's driver v0.5; each reason has its manifests in cluster/examples too."""

    numa = "device.attributes['resource.kubernetes.io'].numaNode"

    def in_slice(self, *devices: Json, node: str = "n1") -> Json:
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-slice"},
            "spec": {
                "driver": NVIDIA,
                "nodeName": node,
                "pool": {"name": node},
                "devices": list(devices),
            },
        }

    def gpu(self, **fields: object) -> Json:
        attributes = {"type": {"string": "gpu"}, **fields}
        return {"name": "gpu-0", "attributes": attributes}

    @pytest.mark.parametrize("test", ["{} == 0", "0 == {}", "{} in [0, 1]", "{} > 0"])
    def test_a_number_is_compared_with_what_may_be_a_list(self, test: str) -> None:
        text = f"{OF_GPU} && has({self.numa}) && {test.format(self.numa)}"
        [finding] = in_class(text)
        assert (finding.reason, finding.severity) == ("list-attribute", "warning")
        ints = {"resource.kubernetes.io/numaNode": {"ints": [0]}}
        [finding] = found(device_class("test", text), self.in_slice(self.gpu(**ints)))
        assert (finding.reason, finding.severity) == ("list-attribute", "error")

    def test_includes_reads_both_forms(self) -> None:
        assert in_class(f"{OF_GPU} && has({self.numa}) && {self.numa}.includes(0)") == []

    @pytest.mark.parametrize(
        ("count", "constraint", "fits"),
        [
            (1, None, True),  # there are partitions of one GPU
            (2, None, False),
            (2, f"{NVIDIA}/partition2", True),
            (2, f"{NVIDIA}/partition4", False),
            (4, f"{NVIDIA}/partition2", False),
            (2, "resource.kubernetes.io/pcieRoot", False),
        ],
    )
    def test_the_gpus_of_a_claim_are_one_partition_of_the_fabric(
        self, count: int, constraint: str | None, fits: bool
    ) -> None:
        partitions = {f"partition{n}": {"int": 1} for n in (1, 2, 4)}
        there = self.in_slice(self.gpu(**partitions))
        request = {"name": "gpu", "exactly": {"deviceClassName": "llm-gpu-80g", "count": count}}
        asked = claim(request, constraints=[{"matchAttribute": constraint}] if constraint else [])
        assert reasons(found(asked, there)) == ([] if fits else ["fabric-partition"])
        assert found(asked, self.in_slice(self.gpu())) == []

    def test_a_partition_of_a_card_and_limits_for_several_cards(self) -> None:
        there = self.in_slice(self.gpu(partition2={"int": 1}))
        request = {"name": "gpu", "exactly": {"deviceClassName": "llm-mig-1g-10gb"}}
        assert found(claim(request), there) == [], "Fabric Manager has no MIG devices"
        limits = {"deviceclass.resource.kubernetes.io/llm-gpu-80g": 2}
        spec = {"containers": [{"name": "c", "resources": {"limits": limits}}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        [finding] = found(pod, there)
        assert finding.reason == "fabric-partition"
        assert "an extended resource has no constraints" in finding.fix

    @pytest.mark.parametrize(
        ("label", "told"),
        [
            ("cloud.google.com/gke-nodepool", "has no label"),
            ("eks.amazonaws.com/nodegroup", "no slices of a group at zero"),
            ("karpenter.sh/nodepool", "does not look at claims"),
        ],
    )
    def test_each_pool_that_stays_at_zero_is_told_once(self, label: str, told: str) -> None:
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {label: "gpus"}},
            }
            for name in ("n1", "n2", "cpu")
        ]
        slices = [self.in_slice(self.gpu(), node=name) for name in ("n1", "n2")]
        [finding] = found(*nodes, *slices)
        assert (finding.reason, told in finding.message) == ("pool-stays-at-zero", True)
        assert found(nodes[2], *slices) == [], "a node without devices is none of ours"

    def test_a_device_plugin_serves_what_no_class_does(self) -> None:
        bare = device_class(NVIDIA, f"device.driver == '{NVIDIA}'")
        limits = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
        spec = {"containers": [{"name": "c", **limits}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        assert reasons(found(bare, pod)) == ["resource-without-class"]
        assert found(pod) == []
        other = device_class("mine", "true", extendedResourceName="nvidia.com/gpu")
        assert found(bare, other, pod) == []
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "n"},
            "status": {"allocatable": {"nvidia.com/gpu": "1"}},
        }
        assert found(bare, node, pod) == []
