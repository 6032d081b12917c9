"""Mistakes that come from what a driver, its chart or a cloud does, and not from an expression.

Source: kubernetes-sigs/dra-driver-nvidia-gpu v0.5 (guides on consumable capacity, Fabric Manager
partitioning and health, reference of attributes), NVIDIA/cloud-native-docs#458 (GPUCluster), the
documentation of GKE on node pools with DRA.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from relume.cluster.claims.claim import Ask, Claim, claim_of
from relume.cluster.claims.classes import Classes, DeviceClass, Selector, device_class
from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.drivers import DRIVERS
from relume.cluster.claims.findings import Found, found
from relume.cluster.claims.pods import CLAIM_KINDS, containers, pods
from relume.cluster.claims.presets import IMPLICIT_PREFIX
from relume.cluster.claims.yaml_files import FieldPath

NVIDIA, TPU = "gpu.nvidia.com", "tpu.google.com"
GKE_POOL, GKE_LABEL = (
    "cloud.google.com/gke-nodepool",
    "cloud.google.com/gke-nvidia-gpu-dra-driver",
)
# Node groups of clouds whose autoscalers start no first node for a claim.
_NEVER_FROM_ZERO = {
    "eks.amazonaws.com/nodegroup": "EKS gives the autoscaler no slices of a group at zero",
    "karpenter.sh/nodepool": "Karpenter does not look at claims, unless it is told to",
}
HEALTH = {
    f"{NVIDIA}/xid": "the driver reported an error of the card (XID)",
    f"{NVIDIA}/gpu-lost": "the card does not answer any more",
    f"{NVIDIA}/unmonitored": "the driver does not watch the health of the card",
}
_BROKEN = (f"{NVIDIA}/xid", f"{NVIDIA}/gpu-lost")
_NUMA_NAME = "resource.kubernetes.io/numaNode"
_PARTITION = re.compile(rf"({re.escape(NVIDIA)}/)?partition(\d{{1,3}})")
_NUMA = r"device\.attributes\[['\"]resource\.kubernetes\.io['\"]\]\.\??numaNode"
_COMPARED = re.compile(rf"{_NUMA}\s*(?:==|!=|[<>]=?|in\b)|(?:==|!=|[<>]=?)\s*{_NUMA}(?!\.)")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the slices among the documents show.

    `partitions` are the sizes of Fabric Manager's, `chips` those of a TPU's nodes, `drivers` the
    drivers by node; `lists`: numaNode is a list, `shared`: devices allow several allocations.
    """

    partitions: frozenset[int]
    chips: frozenset[int]
    lists: bool
    shared: bool
    drivers: Mapping[str, frozenset[str]]


def driver_lints(documents: Sequence[Document], own: Sequence[DeviceClass]) -> Iterator[Found]:
    """Every finding; `own` are the DeviceClasses among the documents."""
    classes, seen = Classes.of(own), _seen(documents)
    pools: set[str] = set()
    for document in documents:
        if document.kind == "Node":
            yield from _pool(document, seen, pools)
        elif document.kind == "ResourceSlice":
            yield from _health(document)
        elif document.kind in CLAIM_KINDS:
            yield from _claim(document, classes, seen)
        else:
            yield from _workload(document, classes, own, seen, documents)
    for document in documents:
        if document.kind in (*CLAIM_KINDS, "DeviceClass"):
            yield from _lists(document, seen)


def _seen(documents: Iterable[Document]) -> Seen:
    """Reads plain data: an inventory of a large cluster has hundreds of thousands of attributes."""
    partitions: set[int] = set()
    chips: set[int] = set()
    lists = shared = False
    drivers: dict[str, set[str]] = {}
    for driver, node, devices in _slices(documents):
        drivers.setdefault(node, set()).add(driver)
        for device in devices:
            shared = shared or device.get("allowMultipleAllocations") is True
            attributes = device.get("attributes")
            for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
                if driver == NVIDIA and (number := _PARTITION.fullmatch(str(name))) is not None:
                    partitions.add(int(number[2]))
                elif name == "chipCount" and driver == TPU and isinstance(value, Mapping):
                    chips.update(n for n in value.values() if type(n) is int)
                elif name == _NUMA_NAME and isinstance(value, Mapping):
                    lists = lists or "ints" in value
    held = {node: frozenset(names) for node, names in drivers.items()}
    return Seen(frozenset(partitions), frozenset(chips), lists, shared, held)


def _slices(
    documents: Iterable[Document],
) -> Iterator[tuple[str, str, list[Mapping[str, object]]]]:
    """Driver, node and devices of each ResourceSlice."""
    for document in documents:
        spec = document.data.get("spec") if document.kind == "ResourceSlice" else None
        if not isinstance(spec, Mapping):
            continue
        devices = spec.get("devices")
        listed = [one for one in devices if isinstance(one, Mapping)] if _is_list(devices) else []
        bodies = [one["basic"] if isinstance(one.get("basic"), Mapping) else one for one in listed]
        yield str(spec.get("driver", "")), str(spec.get("nodeName", "")), bodies


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def stays_at_zero(labels: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """The pool of a node that starts no first node for a claim, with what is wrong and the fix.

    `labels` are those of a node that has devices of NVIDIA's driver.
    """
    pool = labels.get(GKE_POOL, "")
    if pool and labels.get(GKE_LABEL) != "true":
        message = (
            f"the node pool {pool} has no label {GKE_LABEL}=true: at zero nodes GKE starts none "
            "for a pod with a claim"
        )
        fix = f"gcloud container node-pools update {pool} --node-labels={GKE_LABEL}=true"
        yield pool, message, f"set it on the pool: {fix}"
    for label, why in _NEVER_FROM_ZERO.items():
        if group := labels.get(label, ""):
            message = f"{group}: {why}, so that no first node starts for a pod with a claim"
            yield group, message, "keep at least one node in the group"


def told(device: str, key: str, value: str, effect: str) -> tuple[str, str, str]:
    """Reason, place and message of a taint of HEALTH on a device."""
    stops = effect in ("NoSchedule", "NoExecute")
    what = "no new claim gets it" if stops else "it is still given out"
    message = (
        f"{device}: {HEALTH[key]}{f' {value}' if value else ''}; {what}, and a pod that holds it "
        "keeps it, because the driver evicts none"
    )
    return ("unhealthy-device" if stops else "device-told"), device, message


def _pool(document: Document, seen: Seen, pools: set[str]) -> Iterator[Found]:
    """Node pools that start no first node for a claim, each once."""
    if NVIDIA not in seen.drivers.get(document.name, ()):
        return
    written = Field.root(document).get("metadata", "labels").entries()
    for pool, message, fix in stays_at_zero({key: str(one.value) for key, one in written}):
        if pool not in pools:
            pools.add(pool)
            path: FieldPath = ("metadata", "labels")
            yield found(document, path, "pool-stays-at-zero", "warning", message, fix)


def _health(document: Document) -> Iterator[Found]:
    """Taints by which the driver tells what is wrong with a card."""
    devices = next((found for _, _, found in _slices([document])), [])
    if not any(device.get("taints") for device in devices):
        return
    for number, device in enumerate(Field.root(document).get("spec", "devices").items()):
        for place, taint in enumerate(device.get("taints").items()):
            key, effect = taint.get("key").text(), taint.get("effect").text()
            if key not in HEALTH:
                continue
            value = str(taint.get("value").value or "")
            reason, _, message = told(device.get("name").text(), key, value, effect)
            yield found(
                document,
                ("spec", "devices", number, "taints", place),
                reason,
                "warning" if reason == "unhealthy-device" else "info",
                message,
                "look at the card, move the pods that hold it, and reset or replace it",
            )


def _claim(document: Document, classes: Classes, seen: Seen) -> Iterator[Found]:
    claim = claim_of(document)
    inside: FieldPath = ("spec", "spec") if document.kind == "ResourceClaimTemplate" else ("spec",)
    root = Field.root(document).get(*map(str, inside), "devices")
    for request, item in zip(claim.requests, root.get("requests").items(), strict=True):
        for ask in request.asks:
            yield from _everything_tolerated(document, item.path, ask)
            yield from _chips(document, item.path, ask, classes, seen)
            if seen.partitions and not _fits_fabric(claim, request.name, ask, classes, seen):
                yield _fabric(document, item.path, ask.count, "add the constraint matchAttribute: ")
    yield from _config(document, claim, root, seen)


def _everything_tolerated(document: Document, path: FieldPath, ask: Ask) -> Iterator[Found]:
    if any(not one.key and one.operator == "Exists" for one in ask.tolerations):
        yield found(
            document,
            path,
            "tolerates-everything",
            "warning",
            "a toleration without a key also takes cards that are lost or have a fatal error",
            f"name the key of the taint that is meant, and leave {' and '.join(_BROKEN)} out",
        )


def _chips(
    document: Document, path: FieldPath, ask: Ask, classes: Classes, seen: Seen
) -> Iterator[Found]:
    """The TPU driver makes the environment for all chips of a node (NewTPUManager)."""
    one = classes.by_name.get(ask.class_name)
    text = " ".join(selector.expression for selector in one.selectors) if one else ""
    if TPU not in text or ask.mode == "All" or not seen.chips or ask.count in seen.chips:
        return
    sizes = " or ".join(str(size) for size in sorted(seen.chips))
    yield found(
        document,
        path,
        "tpu-part-of-node",
        "warning",
        f"{ask.count} of the {sizes} chips of a node: the driver sets a container up for all",
        f"write count: {sizes}, or allocationMode: All",
    )


def _fits_fabric(claim: Claim, name: str, ask: Ask, classes: Classes, seen: Seen) -> bool:
    """Whether the devices of the ask are one partition of Fabric Manager, as far as is seen."""
    if not _whole_gpu(classes.by_name.get(ask.class_name)):
        return True
    if ask.count == 1 and 1 in seen.partitions:
        return True
    return any(
        constraint.attribute == f"{NVIDIA}/partition{ask.count}"
        and not constraint.distinct
        and (
            not constraint.requests
            or name in {one.partition("/")[0] for one in constraint.requests}
        )
        for constraint in claim.constraints
    )


def _whole_gpu(one: DeviceClass | None) -> bool:
    text = " ".join(selector.expression for selector in one.selectors) if one else ""
    return NVIDIA in text and "'mig'" not in text


def _fabric(document: Document, path: FieldPath, count: int, fix: str) -> Found:
    many = "a GPU" if count == 1 else f"{count} GPUs"
    return found(
        document,
        path,
        "fabric-partition",
        "error",
        f"{many} that are no partition of Fabric Manager: the scheduler gives them, and then "
        "Prepare fails, so that the pod never starts",
        f"{fix}{NVIDIA}/partition{count}",
    )


def _config(document: Document, claim: Claim, devices: Field, seen: Seen) -> Iterator[Found]:
    for item in devices.get("config").items():
        strategy = item.get("opaque", "parameters", "sharing", "strategy")
        if strategy.value == "TimeSlicing" and document.kind == "ResourceClaimTemplate":
            yield found(
                document,
                strategy.path,
                "time-slicing-alone",
                "warning",
                "TimeSlicing sets the length of a slice and shares nothing: each pod of a template "
                "has a claim of its own, and so a device of its own",
                "write a ResourceClaim that the pods name (relume.dev/share: claim=NAME)",
            )
        shares = seen.shared or any(ask.capacity for one in claim.requests for ask in one.asks)
        if strategy.value == "MPS" and shares:
            yield found(
                document,
                strategy.path,
                "mps-with-shares",
                "error",
                "the driver refuses an MPS configuration on a device that is shared by consumable "
                "capacity: the claim fails at Prepare",
                "remove the configuration, or the capacity",
            )


def _workload(
    document: Document,
    classes: Classes,
    own: Sequence[DeviceClass],
    seen: Seen,
    documents: Sequence[Document],
) -> Iterator[Found]:
    for pod in pods(document):
        for container in containers(pod.spec):
            for resource, amount in container.get("resources", "limits").entries():
                yield from _unserved(document, resource, amount, own, documents)
                one = classes.serving(resource)
                count = amount.value if isinstance(amount.value, int) else str(amount.value)
                many = int(count) if str(count).isdecimal() else 0
                lone = many == 1 and 1 in seen.partitions
                if seen.partitions and many and not lone and _whole_gpu(one):
                    fix = (
                        "an extended resource has no constraints: use a claim with matchAttribute: "
                    )
                    yield _fabric(document, amount.path, many, fix)


def _unserved(
    document: Document,
    resource: str,
    amount: Field,
    own: Sequence[DeviceClass],
    documents: Sequence[Document],
) -> Iterator[Found]:
    """A resource whose class is among the documents without serving it (GPUCluster's class)."""
    usual = next(
        (
            name
            for driver in DRIVERS.values()
            for name, (_, served) in driver.classes.items()
            if served == resource
        ),
        None,
    )
    bare = any(one.name == usual and one.extended_resource is None for one in own)
    if not bare or any(one.extended_resource == resource for one in own):
        return
    nodes = (Field.root(one) for one in documents if one.kind == "Node")
    offered = (node.get("status", "allocatable", resource).value for node in nodes)
    if any(str(one or "0") != "0" for one in offered):
        return  # a device plugin serves it
    yield found(
        document,
        amount.path,
        "resource-without-class",
        "error",
        f"the DeviceClass {usual} has no extendedResourceName, as NVIDIA's GPU Operator makes it "
        f"(GPUCluster), and no other class serves {resource}: the pod stays pending",
        f"ask for {IMPLICIT_PREFIX}{usual}, or for a class of Relume's",
    )


def _lists(document: Document, seen: Seen) -> Iterator[Found]:
    for selector in _selectors_of(document):
        if selector.field is not None and _COMPARED.search(selector.expression):
            now = "is a list here" if seen.lists else "becomes a list with DRAListTypeAttributes"
            yield found(
                document,
                selector.field.path,
                "list-attribute",
                "error" if seen.lists else "warning",
                f"resource.kubernetes.io/numaNode {now}, and a list is compared with no number",
                "write .includes(NUMBER) where the gate is on, or a constraint with matchAttribute",
            )


def _selectors_of(document: Document) -> Iterator[Selector]:
    if document.kind == "DeviceClass":
        yield from device_class(document).selectors
        return
    for request in claim_of(document).requests:
        for ask in request.asks:
            yield from ask.selectors
