"""What a cluster has: complete pools of devices, nodes, devices in use, DeviceClasses.

Only the newest generation of a pool counts, and only when every slice of it is there; slice count
and generation are compared as the scheduler does (KEP-4381, "ResourceSlice").
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relume.cluster.claims.classes import DeviceClass, device_class
from relume.cluster.claims.devices import (
    Counters,
    Device,
    DeviceId,
    Slice,
    SliceReader,
    Taint,
    qualified,
)
from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.quantity import Quantity

_TaintRule = tuple[tuple[str, ...], Taint]
"""Driver, pool and device that a DeviceTaintRule selects, "" for any (KEP-5055), and its taint."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The newest generation of one pool. `trouble` says why nothing can be allocated from it."""

    driver: str
    name: str
    devices: tuple[Device, ...]
    counters: Counters
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class InventoryNode:
    """One node with its labels."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that an allocation depends on. `used` maps a device to the claim that holds it.

    `consumed` are the shares taken of devices that allow several allocations.
    """

    pools: tuple[Pool, ...]
    nodes: tuple[InventoryNode, ...]
    used: Mapping[DeviceId, str] = field(default_factory=dict)
    consumed: Mapping[DeviceId, Mapping[str, Quantity]] = field(default_factory=dict)
    classes: tuple[DeviceClass, ...] = ()

    def by_node(self) -> Iterator[tuple[InventoryNode, list[tuple[Pool, Device]]]]:
        """Each node with the devices that a pod there can use, as the scheduler orders them."""
        local: dict[str, list[tuple[int, Device]]] = {}
        shared: list[tuple[int, Device]] = []
        for number, pool in enumerate(self.pools):
            for device in pool.devices:
                name = device.placement.node
                found = shared if name is None else local.setdefault(name, [])
                found.append((number, device))
        for node in self.nodes:
            own = local.get(node.name, [])
            own += [e for e in shared if e[1].placement.holds(node.name, node.labels)]
            own.sort(key=lambda entry: entry[0])
            yield node, [(self.pools[number], device) for number, device in own]


def build(documents: Iterable[Document]) -> Inventory:
    """An inventory from ResourceSlices, ResourceClaims, Nodes, DeviceClasses and DeviceTaintRules.

    Other kinds are ignored. Raises InvalidManifest for a document that is wrong.
    """
    by_kind: dict[str, list[Document]] = {}
    for document in documents:
        by_kind.setdefault(document.kind, []).append(document)
    reader = SliceReader()
    slices = [reader.read(document) for document in by_kind.get("ResourceSlice", ())]
    used, consumed = _allocations(by_kind.get("ResourceClaim", ()))
    rules = [_taint_rule(document) for document in by_kind.get("DeviceTaintRule", ())]
    pools = tuple(_pools(slices, rules))
    nodes = tuple(_nodes(by_kind.get("Node", ()), pools))
    classes = tuple(device_class(document) for document in by_kind.get("DeviceClass", ()))
    return Inventory(pools, nodes, used, consumed, classes)


def _pools(slices: Iterable[Slice], rules: Sequence[_TaintRule]) -> Iterator[Pool]:
    members: dict[tuple[str, str], list[Slice]] = {}
    for one in slices:
        members.setdefault((one.driver, one.pool), []).append(one)
    for driver, name in sorted(members):
        group = members[driver, name]
        newest = max(one.generation for one in group)
        current = sorted((s for s in group if s.generation == newest), key=lambda s: s.name)
        devices = tuple(_tainted(d, rules) for one in current for d in one.devices)
        counters = {key: amount for one in current for key, amount in one.counters.items()}
        yield Pool(driver, name, devices, counters, _trouble(current, devices, counters))


def _trouble(slices: Sequence[Slice], devices: Sequence[Device], counters: Counters) -> str | None:
    expected = slices[0].expected
    if len(slices) != expected:
        generation = slices[0].generation
        return f"{len(slices)} of {expected} slices of generation {generation} are there"
    names = [device.name for device in devices]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        return f"the device name {twice} is there twice"
    for device in devices:
        for counter_set, counter in device.counters:
            if (counter_set, counter) in counters:
                continue
            return f"{device.name} consumes {counter} of {counter_set}, which is not there"
    return None


def _nodes(documents: Iterable[Document], pools: Iterable[Pool]) -> Iterator[InventoryNode]:
    """The nodes that have a document, then those that only a device names."""
    seen: set[str] = set()
    for document in documents:
        seen.add(document.name)
        labels = Field.root(document).get("metadata", "labels").entries()
        yield InventoryNode(document.name, {key: value.text() for key, value in labels})
    for pool in pools:
        for device in pool.devices:
            name = device.placement.node
            if name is not None and name not in seen:
                seen.add(name)
                yield InventoryNode(name)


def _allocations(
    documents: Iterable[Document],
) -> tuple[dict[DeviceId, str], dict[DeviceId, dict[str, Quantity]]]:
    """The devices that claims hold, and the shares that claims hold of devices."""
    used: dict[DeviceId, str] = {}
    consumed: dict[DeviceId, dict[str, Quantity]] = {}
    for document in documents:
        results = Field.root(document).get("status", "allocation", "devices", "results")
        for result in results.items():
            if result.get("adminAccess").boolean():
                continue
            driver, pool, device = (result.need(key).text() for key in ("driver", "pool", "device"))
            if not result.get("shareID").there:
                used[driver, pool, device] = f"{document.namespace}/{document.name}"
                continue
            taken = consumed.setdefault((driver, pool, device), {})
            for name, amount in result.get("consumedCapacity").quantities().items():
                key = qualified(name, driver)
                taken[key] = taken.get(key, 0) + amount
    return used, consumed


def _taint_rule(document: Document) -> _TaintRule:
    spec = Field.root(document).need("spec")
    selector = spec.get("deviceSelector").texts("driver", "pool", "device")
    return selector, Taint.read(spec.need("taint"))


def _tainted(device: Device, rules: Sequence[_TaintRule]) -> Device:
    added = tuple(
        taint
        for selector, taint in rules
        if all(not want or want == has for want, has in zip(selector, device.ident, strict=True))
    )
    return replace(device, taints=(*device.taints, *added)) if added else device
