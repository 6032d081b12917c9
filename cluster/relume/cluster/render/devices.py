"""What a service asks for: devices in `limits`, alternatives and a share of one in annotations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import FALLBACKS
from relume.cluster.claims.presets import IMPLICIT_PREFIX, MIG_RESOURCE, find
from relume.cluster.render.originals import ANNOTATIONS, MODEL, Original
from relume.cluster.render.sharing import Share, read_share
from relume.config.nodes import Node, Scalar, Table

MOST_ALTERNATIVES = 8  # of a firstAvailable list (resource.k8s.io/v1)

# Resource names that stand for whole devices -> vendor and the DeviceClass of the vendor's driver.
_WELL_KNOWN: dict[str, tuple[str, str]] = {
    "nvidia.com/gpu": ("NVIDIA", "gpu.nvidia.com"),
    "amd.com/gpu": ("AMD", "gpu.amd.com"),
    "gpu.intel.com/i915": ("Intel", "gpu.intel.com"),
    "gpu.intel.com/xe": ("Intel", "gpu.intel.com"),
    "google.com/tpu": ("Google", "tpu.google.com"),
}
_WHOLE = re.compile(r"[1-9][0-9]{0,3}")
_ONE_PARTITION = "CUDA gives a process one MIG device, and no other: ask for a larger profile"
_CHOICE = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?)(?:=([1-9][0-9]{0,3}))?")
#: The vendor behind a resource name of a device plugin.
RESOURCE_VENDORS = {name: vendor for name, (vendor, _) in _WELL_KNOWN.items()}
_NO_DEVICE = frozenset({"cpu", "none"})
_DRIVER_CLASSES = {class_name: vendor for vendor, class_name in _WELL_KNOWN.values()}


@dataclass(frozen=True, slots=True)
class Alternative:
    """So many devices of a class."""

    device_class: str
    count: int


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One device resource of `limits`; `device_class` None where only a device plugin knows it."""

    resource: str
    count: int
    node: Node
    vendor: str | None
    device_class: str | None
    partition: bool = False


@dataclass(frozen=True, slots=True)
class Devices:
    """All devices that one service asks for.

    The annotation `relume.dev/fallbacks: llm-gpu-40g=2, llm-gpu-24g=4` says what to take, in this
    order, if the device of `limits` is not free; a class without a number means one device.
    `share` is what of the device the service takes, where others use it too.
    """

    requests: tuple[DeviceRequest, ...] = ()
    fallbacks: tuple[Alternative, ...] = ()
    fallbacks_node: Node | None = None
    share: Share | None = None

    @property
    def vendor(self) -> str | None:
        """Whose devices they are, where that is known."""
        return next((request.vendor for request in self.requests if request.vendor), None)

    @property
    def vendors(self) -> tuple[str, ...]:
        """The vendors of the devices and of all alternatives, where they are known, in order."""
        known = (vendor_of(choice.device_class) for choice in self.fallbacks)
        return tuple(dict.fromkeys(one for one in (self.vendor, *known) if one is not None))

    @property
    def least(self) -> int:
        """The smallest number of devices that the pod can get."""
        asked = sum(request.count for request in self.requests)
        return min([asked, *(choice.count for choice in self.fallbacks)])


def vendor_of(device_class: str) -> str | None:
    """Whose devices a class selects: one of ours, or of a driver's chart; None for any other."""
    preset = find(device_class)
    return preset.vendor if preset is not None else _DRIVER_CLASSES.get(device_class)


def read_devices(original: Original) -> Devices:
    """The devices of an InferenceService; raises InvalidManifest for what no cluster takes."""
    limits = original.node(*MODEL, "resources", "limits")
    asked = original.node(*MODEL, "resources", "requests")
    requests = tuple(
        request
        for name, node in (limits.table() if isinstance(limits, Table) else ())
        if "/" in name and (request := _request(name, node)) is not None
    )
    _check_requests(asked, {request.resource: request.count for request in requests})
    vendors = {request.vendor: request for request in requests if request.vendor}
    if len(vendors) > 1:
        last = list(vendors.values())[-1]
        raise last.node.wrong(f"a predictor runs on devices of one vendor, not of {len(vendors)}")
    _check_partitions(requests)
    vendor = next(iter(vendors), None)
    share = read_share(original, vendor, len(requests))
    node = original.node(*ANNOTATIONS, FALLBACKS)
    if node is None:
        return Devices(requests, share=share)
    if len(requests) != 1:
        raise node.wrong("a fallback stands beside one device in model.resources.limits")
    return Devices(requests, _fallbacks(node), node, share)


def _request(name: str, node: Node) -> DeviceRequest | None:
    if name.startswith(IMPLICIT_PREFIX):
        class_name = name.removeprefix(IMPLICIT_PREFIX)
        preset = find(class_name)
        vendor = preset.vendor if preset else None
        part = preset is not None and preset.partition
        return DeviceRequest(name, _count(node), node, vendor, class_name, part)
    if name in _WELL_KNOWN:
        vendor, class_name = _WELL_KNOWN[name]
        return DeviceRequest(name, _count(node), node, vendor, class_name)
    if MIG_RESOURCE.fullmatch(name):
        return DeviceRequest(name, _count(node), node, "NVIDIA", None, partition=True)
    return None  # something else, such as a network card: not ours to count


def _count(node: Node) -> int:
    text = node.content if isinstance(node, Scalar) else ""
    if not _WHOLE.fullmatch(text):
        raise node.wrong(f"invalid value: {text}: devices are counted in whole numbers from 1")
    return int(text)


def _check_requests(asked: Node | None, limits: dict[str, int]) -> None:
    """Kubernetes takes an extended resource in `requests` only beside an equal limit."""
    for name, node in asked.table() if isinstance(asked, Table) else ():
        if "/" in name and (name in limits or _request(name, node) is not None):
            if limits.get(name) == _count(node):
                continue
            raise node.wrong("must equal the limit: Kubernetes does not overcommit devices")


def _check_partitions(requests: Sequence[DeviceRequest]) -> None:
    if sum(request.count for request in requests) < 2:
        return
    for request in requests:
        if request.partition:
            raise request.node.wrong(_ONE_PARTITION)


def _fallbacks(node: Node) -> tuple[Alternative, ...]:
    found: list[Alternative] = []
    for part in node.text().split(","):
        match = _CHOICE.fullmatch(part.strip())
        if match is None:
            raise node.wrong(f"invalid value: {part.strip()}: write CLASS or CLASS=COUNT")
        if match[1] in _NO_DEVICE:
            raise node.wrong(
                f"{match[1]} is no DeviceClass: each alternative of a claim is a device, so that a "
                "pod cannot fall back on none. Write a second InferenceService for the CPU, "
                "without limits for a device"
            )
        preset = find(match[1])
        if preset is not None and preset.partition and int(match[3] or 1) > 1:
            raise node.wrong(f"{part.strip()}: {_ONE_PARTITION}")
        found.append(Alternative(match[1], int(match[3] or 1)))
    if len(found) >= MOST_ALTERNATIVES:
        raise _too_many(node)
    return tuple(found)


def _too_many(node: Node) -> InvalidManifest:
    return node.wrong(f"Too many: must have at most {MOST_ALTERNATIVES - 1} fallbacks")
