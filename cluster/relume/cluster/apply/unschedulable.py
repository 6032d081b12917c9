"""Why the scheduler finds no devices for a pod, from the cluster's own inventory.

Kubernetes says "cannot allocate all claims"; `relume.cluster.claims` names the clause and devices.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from relume.base.errors import RelumeError
from relume.cluster.apply.api import ClusterApi, Forbidden, Json
from relume.cluster.apply.devices import claims_of
from relume.cluster.apply.parts import text
from relume.cluster.claims.claim import Ask, Claim
from relume.cluster.claims.documents import Document
from relume.cluster.claims.explain import ClaimReport, explain
from relume.config.nodes import Node

_DRA = "/apis/resource.k8s.io"
_INVENTORY = (
    ("ResourceSlice", f"{_DRA}/v1/resourceslices"),
    ("DeviceClass", f"{_DRA}/v1/deviceclasses"),
    ("ResourceClaim", f"{_DRA}/v1/resourceclaims"),
    ("DeviceTaintRule", f"{_DRA}/v1/devicetaintrules"),
    ("Node", "/api/v1/nodes"),
)
# "Insufficient cpu" is not about devices; a resource with a domain may be.
_ABOUT_DEVICES = re.compile(r"(?i)\bclaims?\b|device|\bCEL\b|insufficient \S+/")


class NotExplained(RelumeError):
    """The inventory may not be read, or is not what the API says it is."""

    reason = "not-explained"


def is_about_devices(why: str) -> bool:
    """Whether what the scheduler says may be about devices."""
    return _ABOUT_DEVICES.search(why) is not None


def explain_pod(api: ClusterApi, pod: Json) -> Sequence[ClaimReport]:
    """The reports on a pod's claims. Raises NotExplained, and Unreachable."""
    namespace = text(pod, "metadata", "namespace")
    own = f"{_DRA}/v1/namespaces/{namespace}"
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
    """The report, where a class that ships with us or a driver may not be on this cluster."""
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
    """An item of a list, which does not say its own kind; in errors it stands for its lines."""
    version = "v1" if kind in ("Pod", "Node") else "resource.k8s.io/v1"
    file = Path(f"{kind} {text(body, 'metadata', 'name')}")
    no_line = Node(file, 0, "")
    return Document(file, 0, {"apiVersion": version, "kind": kind, **body}, node=no_line)
