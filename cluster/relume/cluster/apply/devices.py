"""Whether a pod holds the devices that its service asks for, and why the scheduler finds none.

A layer between the service and the pod may have dropped the request: then the pod becomes ready
without a device (seen on Kubernetes 1.36 with KServe on Knative). So what a pod should have is read
from its service. Where a claim cannot be allocated, Kubernetes says only "cannot allocate all
claims"; `relume.cluster.claims` names the clause and the devices, from the cluster's own inventory.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from relume.base.errors import RelumeError
from relume.base.vocabulary import CLAIM_TEMPLATE, RESOURCE_V1, SHARED_CLAIM, Json
from relume.cluster.apply.api import ClusterApi, Forbidden, condition, objects, part, table, text
from relume.cluster.claims.claim import Ask, Claim
from relume.cluster.claims.documents import Document
from relume.cluster.claims.explain import ClaimReport, explain
from relume.cluster.claims.presets import IMPLICIT_PREFIX
from relume.config.nodes import Node

HoldingState = Literal["holds", "waits", "without", "unknown"]


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """What each pod of a service should have: a claim, or extended resources by name."""

    claim: bool = False
    resources: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.claim or bool(self.resources)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one pod has. `claims` are the names of its ResourceClaims."""

    state: HoldingState
    detail: str
    claims: tuple[str, ...] = ()


def is_explicit(resource: str) -> bool:
    """Whether a device plugin may serve the name, because it does not name a DeviceClass."""
    return not resource.startswith(IMPLICIT_PREFIX)


def need_of(service: Json) -> DeviceNeed:
    """What an InferenceService asks of DRA, or of a device plugin, for each of its pods."""
    predictor = table(service, "spec", "predictor")
    containers = [table(predictor, "model"), *objects(predictor, "containers")]
    asked = {
        name
        for one in containers
        for kind in ("limits", "requests")
        for name in table(one, "resources", kind)
        if "/" in name
    }
    by_claim = bool(objects(predictor, "resourceClaims")) or any(
        objects(one, "resources", "claims") for one in containers
    )
    annotated = any(
        text(service, "metadata", "annotations", name) for name in (CLAIM_TEMPLATE, SHARED_CLAIM)
    )
    return DeviceNeed(annotated or by_claim, tuple(sorted(asked)))


def claims_of(pod: Json) -> tuple[str, ...]:
    """The names of a pod's ResourceClaims, including the one that the scheduler made."""
    named = [
        *(
            text(one, "resourceClaimName")
            for one in objects(pod, "status", "resourceClaimStatuses")
        ),
        *(text(one, "resourceClaimName") for one in objects(pod, "spec", "resourceClaims")),
        text(pod, "status", "extendedResourceClaimStatus", "resourceClaimName"),
    ]
    return tuple(dict.fromkeys(name for name in named if name))


def is_up(pod: Json) -> bool:
    """Whether the pod takes requests."""
    return text(condition(pod, "Ready"), "status") == "True"


def holding(
    need: DeviceNeed, pod: Json, claims: Mapping[str, Json], nodes: Mapping[str, Json] | None
) -> Holding:
    """Which of the devices that it needs a pod holds.

    `claims` are those of its namespace, by name; `nodes` by name, None where they may not be read.
    """
    names = claims_of(pod)
    if names:
        return _by_claims(pod, names, claims)
    if objects(pod, "spec", "resourceClaims"):
        return Holding("waits", "its claim is not made yet")
    plugin = [name for name in need.resources if is_explicit(name)]
    if need.claim or len(plugin) < len(need.resources):
        if need.resources and not text(pod, "spec", "nodeName"):
            return Holding("waits", "no node yet")
        return Holding("without", "the pod has no claim")
    return _by_plugin(pod, plugin, nodes)


def _by_claims(pod: Json, names: tuple[str, ...], claims: Mapping[str, Json]) -> Holding:
    devices: list[str] = []
    for name in names:
        found = claims.get(name)
        allocated = objects(found, "status", "allocation", "devices", "results")
        if not allocated:
            return Holding("waits", f"claim {name} is not allocated", names)
        users = {text(one, "uid") for one in objects(found, "status", "reservedFor")}
        if text(pod, "metadata", "uid") not in users:
            return Holding("waits", f"claim {name} is not reserved for the pod", names)
        devices += [f"{text(one, 'pool')}/{text(one, 'device')}" for one in allocated]
    return Holding("holds", ", ".join(devices), names)


def _by_plugin(pod: Json, names: list[str], nodes: Mapping[str, Json] | None) -> Holding:
    on = text(pod, "spec", "nodeName")
    if not on:
        return Holding("waits", "no node yet")
    limits = {
        name
        for container in objects(pod, "spec", "containers")
        for name in table(container, "resources", "limits")
    }
    dropped = [name for name in names if name not in limits]
    if dropped:
        return Holding("without", f"the pod does not ask for {', '.join(dropped)}")
    if nodes is None:
        return Holding("unknown", "nodes may not be read, so that a device plugin cannot be seen")
    capacity = table(nodes.get(on), "status", "capacity")
    if all(str(part(capacity, name) or "0") != "0" for name in names):
        return Holding("holds", f"{', '.join(names)} from the device plugin of {on}")
    return Holding("without", f"the pod has no claim, and {on} no device plugin for it")


def classes_of(api: ClusterApi) -> frozenset[str]:
    """The names of the cluster's DeviceClasses; none if they are not served or may not be read."""
    try:
        found = api.list(f"{_DRA}/deviceclasses") or ()
    except Forbidden:
        found = ()
    return frozenset(text(one, "metadata", "name") for one in found)


_DRA = f"/apis/{RESOURCE_V1}"
_INVENTORY = (
    ("ResourceSlice", f"{_DRA}/resourceslices"),
    ("DeviceClass", f"{_DRA}/deviceclasses"),
    ("ResourceClaim", f"{_DRA}/resourceclaims"),
    ("DeviceTaintRule", f"{_DRA}/devicetaintrules"),
    ("Node", "/api/v1/nodes"),
)
# "Insufficient cpu" is not about devices; a resource with a domain may be.
_ABOUT_DEVICES = re.compile(r"(?i)\bclaims?\b|device|\bCEL\b|insufficient \S+/")


class NotExplained(RelumeError):
    """The inventory may not be read, or does not have the shape that the API defines."""

    reason = "not-explained"


def is_about_devices(why: str) -> bool:
    """Whether the scheduler's message may be about devices."""
    return _ABOUT_DEVICES.search(why) is not None


def explain_pod(api: ClusterApi, pod: Json) -> Sequence[ClaimReport]:
    """The reports on a pod's claims. Raises NotExplained, and Unreachable."""
    namespace = text(pod, "metadata", "namespace")
    own = f"{_DRA}/namespaces/{namespace}"
    try:
        inventory = [
            _document(kind, one) for kind, path in _INVENTORY for one in api.list(path) or ()
        ]
        templates = api.list(f"{own}/resourceclaimtemplates") or ()
    except Forbidden as error:
        raise NotExplained(str(error)) from error
    waiting = set(claims_of(pod))
    known = [_document("ResourceClaimTemplate", one) for one in templates]
    claims = [one for one in inventory if one.kind == "ResourceClaim"]
    known += [one for one in claims if one.namespace == namespace and one.name in waiting]
    try:
        reports = explain([_document("Pod", pod), *known], inventory)
    except RelumeError as error:
        raise NotExplained(str(error)) from error
    there = {one.name for one in inventory if one.kind == "DeviceClass"}
    return [_here(one, there) for one in reports if one.unit.document.kind == "Pod"]


def _here(report: ClaimReport, classes: set[str]) -> ClaimReport:
    """The report, or that the cluster lacks a class that Relume or a driver ships."""
    names = [one.class_name for claim in report.unit.claims for one in _asks(claim)]
    missing = [name for name in dict.fromkeys(names) if name not in classes]
    if not missing:
        return report
    sentence = f"the cluster has no DeviceClass {' and no '.join(missing)}"
    return replace(report, answer="unsatisfiable", sentence=sentence, witness=None)


def _asks(claim: Claim) -> Iterator[Ask]:
    for request in claim.requests:
        yield from request.asks


def _document(kind: str, body: Json) -> Document:
    """An item of a list, which does not name its own kind; errors show its name for a line."""
    version = "v1" if kind in ("Pod", "Node") else RESOURCE_V1
    file = Path(f"{kind} {text(body, 'metadata', 'name')}")
    no_line = Node(file, 0, "")
    return Document(file, 0, {"apiVersion": version, "kind": kind, **body}, node=no_line)
