"""What is likely a mistake in a cluster's inventory: one card offered by two mechanisms."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from relume.cluster.claims.findings import Found, found

# Resources that device plugins offer, and the DRA driver of the same hardware.
_PLUGINS: Mapping[str, str] = {
    "nvidia.com/": "gpu.nvidia.com",
    "amd.com/": "gpu.amd.com",
    "gpu.intel.com/": "gpu.intel.com",
    "google.com/tpu": "tpu.google.com",
}


def served_twice(documents: Sequence[Document]) -> Iterator[Found]:
    """Nodes on which a device plugin and a DRA driver both hand out the same hardware."""
    drivers = _drivers_by_node(documents)
    for document in documents:
        if document.kind != "Node":
            continue
        allocatable = Field.root(document).get("status", "allocatable")
        for resource, amount in allocatable.entries():
            driver = next((d for p, d in _PLUGINS.items() if resource.startswith(p)), None)
            if driver not in drivers.get(document.name, ()) or not amount.quantity():
                continue
            yield found(
                document,
                ("status", "allocatable", resource),
                "served-twice",
                "error",
                f"a device plugin offers {amount.value} {resource} of node {document.name}, and "
                f"{driver} publishes its devices there too: a device can be given out twice",
                "turn the device plugin off on this node, or the DRA driver",
            )


def published_names(documents: Iterable[Document]) -> dict[str, frozenset[str]]:
    """The attributes and capacities that the slices' devices have, by domain."""
    published: dict[str, set[str]] = {}
    for document in documents:
        spec = document.data.get("spec")
        if document.kind != "ResourceSlice" or not isinstance(spec, Mapping):
            continue
        driver = str(spec.get("driver", ""))
        for name in _names(spec.get("devices")):
            domain, slash, ident = name.rpartition("/")
            published.setdefault(domain if slash else driver, set()).add(ident)
    return {domain: frozenset(names) for domain, names in published.items()}


def _names(devices: object) -> set[str]:
    names: set[str] = set()
    for device in devices if isinstance(devices, list) else ():
        if not isinstance(device, Mapping):
            continue
        body = device.get("basic", device)
        for section in ("attributes", "capacity"):
            held = body.get(section) if isinstance(body, Mapping) else None
            if isinstance(held, Mapping):
                names.update(held)
    return names


def _drivers_by_node(documents: Iterable[Document]) -> dict[str, set[str]]:
    drivers: dict[str, set[str]] = {}
    for document in documents:
        spec = document.data.get("spec")
        if document.kind == "ResourceSlice" and isinstance(spec, Mapping):
            node = spec.get("nodeName")
            if isinstance(node, str) and spec.get("devices"):
                drivers.setdefault(node, set()).add(str(spec.get("driver", "")))
    return drivers
