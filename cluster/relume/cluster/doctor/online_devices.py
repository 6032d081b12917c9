"""The devices of a cluster: what the drivers publish, their health, and who hands them out."""

import json
from collections.abc import Iterator, Mapping, Sequence

from relume.base.vocabulary import RESOURCE_V1, Json
from relume.cluster.apply.api import ClusterApi, objects, part, table, text
from relume.cluster.claims.driver_lints import HEALTH, NVIDIA, stays_at_zero, told
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS


def check_devices(api: ClusterApi, dra: bool) -> Iterator[Finding]:
    """What the drivers publish, and what keeps it from pods; `dra`: the API of DRA is served."""
    if not dra:
        return
    slices = list(_newest(api.list(f"/apis/{RESOURCE_V1}/resourceslices") or ()))
    drivers: dict[str, int] = {}
    nodes: dict[str, set[str]] = {}
    for one in slices:
        driver, node = text(one, "spec", "driver"), text(one, "spec", "nodeName")
        drivers[driver] = drivers.get(driver, 0) + len(objects(one, "spec", "devices"))
        nodes.setdefault(node, set()).add(driver)
    if not any(drivers.values()):
        yield _say("no-slices", "resourceslices", "no ResourceSlice lists a device")
    for driver, count in sorted(drivers.items()):
        yield _say("cluster-fact", "resourceslices", f"{driver} publishes {count} devices")
    yield from _check_health(slices)
    classes = api.list(f"/apis/{RESOURCE_V1}/deviceclasses") or ()
    yield from _check_classes(classes)
    there = api.list("/api/v1/nodes") or ()
    yield from _check_pools(there, nodes)
    yield from _check_plugins(classes, there, nodes)


def _check_health(slices: Sequence[Json]) -> Iterator[Finding]:
    """The devices that a driver has tainted, or of which it tells something with a taint."""
    for one in slices:
        for device in objects(one, "spec", "devices"):
            for taint in objects(device, "taints"):
                key, effect = text(taint, "key"), text(taint, "effect")
                if key in HEALTH:
                    place = f"{text(one, 'spec', 'pool', 'name')}/{text(device, 'name')}"
                    yield _say(*told(place, key, text(taint, "value"), effect))


def _check_classes(classes: Sequence[Json]) -> Iterator[Finding]:
    """Which DeviceClasses answer for NVIDIA's resource name; the GPU Operator's does not."""
    named = {
        text(one, "metadata", "name"): text(one, "spec", "extendedResourceName") for one in classes
    }
    resource = "nvidia.com/gpu"
    serving = sorted(name for name, served in named.items() if served == resource)
    if serving:
        message = f"{' and '.join(serving)} answers for {resource}"
        yield _say("cluster-fact", "deviceclasses", message)
    elif NVIDIA in named:
        message = (
            f"no DeviceClass answers for {resource}: a pod that asks for it through DRA stays "
        )
        message += f"pending; deviceclass.resource.kubernetes.io/{NVIDIA} is answered for"
        yield _say("cluster-fact", "deviceclasses", message)


def _check_pools(nodes: Sequence[Json], drivers: Mapping[str, set[str]]) -> Iterator[Finding]:
    """Pools of nodes that start no first node for a pod with a claim."""
    seen: set[str] = set()
    for node in nodes:
        name = text(node, "metadata", "name")
        if NVIDIA not in drivers.get(name, ()):
            continue
        labels = {key: str(value) for key, value in table(node, "metadata", "labels").items()}
        for pool, message, fix in stays_at_zero(labels):
            if pool not in seen:
                seen.add(pool)
                yield _say("pool-stays-at-zero", f"nodes/{name}", message, fix)


def _newest(slices: Sequence[Json]) -> Iterator[Json]:
    """The slices of each pool's highest generation: only those count."""
    highest: dict[tuple[str, str], int] = {}
    for one in slices:
        highest[_pool(one)] = max(highest.get(_pool(one), 0), _generation(one))
    return (one for one in slices if _generation(one) == highest[_pool(one)])


def _pool(one: Json) -> tuple[str, str]:
    return text(one, "spec", "driver"), text(one, "spec", "pool", "name")


def _generation(one: Json) -> int:
    value = part(one, "spec", "pool", "generation")
    return value if isinstance(value, int) else 0


def _check_plugins(
    classes: Sequence[Json], nodes: Sequence[Json], drivers: Mapping[str, set[str]]
) -> Iterator[Finding]:
    """One resource name on one node both from a device plugin and through a DeviceClass."""
    names: dict[str, Json] = {}
    for one in classes:
        if name := text(one, "spec", "extendedResourceName"):
            names[name] = one
    for node in nodes:
        node_name = text(node, "metadata", "name")
        capacity = table(node, "status", "capacity")
        for name in sorted(names.keys() & capacity.keys()):
            held = str(capacity[name])
            selectors = json.dumps(part(names[name], "spec", "selectors") or [])
            here = drivers.get(node_name, set())
            meant = {driver for driver in here if driver in selectors} or here
            if held != "0" and meant:
                yield _say(
                    "plugin-beside-driver",
                    f"nodes/{node_name}",
                    f"{name}: {held} from a device plugin, and {', '.join(sorted(meant))} through "
                    f"the DeviceClass {text(names[name], 'metadata', 'name')}",
                )


def _say(reason: str, field: str, message: str, fix: str = "") -> Finding:
    return Finding(reason, field, message, fix or REASONS[reason].fix)
