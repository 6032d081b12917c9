"""What a cluster has: complete pools of devices, nodes, devices in use, DeviceClasses.

Only the newest generation of a pool counts, and only when every slice of it is there; slice count
and generation are compared as the scheduler does (KEP-4381, "ResourceSlice").
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from relume.cluster.claims.claim_fields import DeviceClass, device_class
from relume.cluster.claims.devices import Device, Taint, matches
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from relume.cluster.claims.quantity import Quantity
from relume.cluster.claims.slices import Slice, SliceReader

Ident = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Pool:
    """The newest generation of one pool. `trouble` says why nothing can be allocated from it."""

    driver: str
    name: str
    generation: int
    devices: tuple[Device, ...]
    counters: Mapping[tuple[str, str], Quantity]
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class NodeOf:
    """One node: its labels, and what device plugins offer (`status.allocatable`)."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that an allocation depends on. `used` maps a device to the claim that holds it.

    `consumed` are the shares taken of devices that allow several allocations.
    """

    pools: tuple[Pool, ...]
    nodes: tuple[NodeOf, ...]
    used: Mapping[Ident, str] = field(default_factory=dict)
    consumed: Mapping[Ident, Mapping[str, Quantity]] = field(default_factory=dict)
    classes: Mapping[str, DeviceClass] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()

    def by_node(self) -> Iterator[tuple[NodeOf, list[tuple[Pool, Device]]]]:
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
            own += [e for e in shared if matches(e[1].placement, node.name, node.labels)]
            own.sort(key=lambda entry: entry[0])
            yield node, [(self.pools[number], device) for number, device in own]

    @property
    def devices(self) -> Iterator[Device]:
        return (device for pool in self.pools for device in pool.devices)


def build(documents: Iterable[Document]) -> Inventory:
    """An inventory from ResourceSlices, ResourceClaims, Nodes, DeviceClasses and DeviceTaintRules.

    Other kinds are ignored. Raises InvalidManifest for a document that is wrong.
    """
    by_kind: dict[str, list[Document]] = {}
    for document in documents:
        by_kind.setdefault(document.kind, []).append(document)
    reader = SliceReader()
    slices = tuple(reader.read(document) for document in by_kind.get("ResourceSlice", ()))
    used, consumed = _allocations(by_kind.get("ResourceClaim", ()))
    rules = [_TaintRule.read(document) for document in by_kind.get("DeviceTaintRule", ())]
    pools = tuple(_pools(slices, rules))
    classes = [device_class(document) for document in by_kind.get("DeviceClass", ())]
    return Inventory(
        pools,
        tuple(_nodes(by_kind.get("Node", ()), pools)),
        used,
        consumed,
        {found.name: found for found in classes},
        slices,
    )


def _pools(slices: Sequence[Slice], rules: "Sequence[_TaintRule]") -> Iterator[Pool]:
    members: dict[tuple[str, str], list[Slice]] = {}
    for one in slices:
        members.setdefault((one.driver, one.pool), []).append(one)
    for driver, name in sorted(members):
        group = members[driver, name]
        newest = max(one.generation for one in group)
        current = sorted((s for s in group if s.generation == newest), key=lambda s: s.name)
        devices = tuple(_tainted(d, rules) for one in current for d in one.devices)
        counters = {key: amount for one in current for key, amount in one.counters.items()}
        trouble = _trouble(current, devices, counters)
        yield Pool(driver, name, newest, devices, counters, trouble)


def _trouble(
    slices: Sequence[Slice],
    devices: Sequence[Device],
    counters: Mapping[tuple[str, str], Quantity],
) -> str | None:
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
            if (counter_set, counter) not in counters:
                return f"{device.name} consumes {counter} of {counter_set}, which is not there"
    return None


def _nodes(documents: Iterable[Document], pools: Iterable[Pool]) -> Iterator[NodeOf]:
    seen: set[str] = set()
    for document in documents:
        root = Field.root(document)
        seen.add(document.name)
        labels = {k: v.text() for k, v in root.get("metadata", "labels").entries()}
        offered = {k: v.quantity() for k, v in root.get("status", "allocatable").entries()}
        yield NodeOf(document.name, labels, offered)
    for pool in pools:
        for device in pool.devices:
            name = device.placement.node
            if name is not None and name not in seen:
                seen.add(name)
                yield NodeOf(name)


def _allocations(
    documents: Iterable[Document],
) -> tuple[dict[Ident, str], dict[Ident, dict[str, Quantity]]]:
    used: dict[Ident, str] = {}
    consumed: dict[Ident, dict[str, Quantity]] = {}
    for document in documents:
        results = Field.root(document).get("status", "allocation", "devices", "results")
        for result in results.items():
            if result.get("adminAccess").boolean():
                continue
            ident = tuple(result.need(key).text() for key in ("driver", "pool", "device"))
            assert len(ident) == 3
            share = result.get("consumedCapacity")
            if not result.get("shareID").there:
                used[ident] = f"{document.namespace}/{document.name}"
                continue
            taken = consumed.setdefault(ident, {})
            for name, amount in share.entries():
                key = name if "/" in name else f"{ident[0]}/{name}"
                taken[key] = taken.get(key, 0) + amount.quantity()
    return used, consumed


@dataclass(frozen=True, slots=True)
class _TaintRule:
    """A DeviceTaintRule: an empty selector field selects everything (KEP-5055)."""

    driver: str
    pool: str
    device: str
    taint: Taint

    @classmethod
    def read(cls, document: Document) -> "_TaintRule":
        spec = Field.root(document).need("spec")
        selector, taint = spec.get("deviceSelector"), spec.need("taint")
        return cls(
            selector.get("driver").text(),
            selector.get("pool").text(),
            selector.get("device").text(),
            Taint(
                taint.need("key").text(),
                taint.get("value").text(),
                taint.need("effect").text(),
            ),
        )

    def selects(self, device: Device) -> bool:
        wanted = (self.driver, self.pool, self.device)
        return all(not w or w == h for w, h in zip(wanted, device.ident, strict=True))


def _tainted(device: Device, rules: "Sequence[_TaintRule]") -> Device:
    added = tuple(rule.taint for rule in rules if rule.selects(device))
    if not added:
        return device
    return Device(
        device.driver,
        device.pool,
        device.name,
        device.attributes,
        device.capacity,
        device.counters,
        (*device.taints, *added),
        device.shareable,
        device.placement,
    )
