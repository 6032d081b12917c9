"""From documents to problems: which claims must be allocated together, on one node.

A Pod (or what makes Pods: Deployment, Knative Service, InferenceService, LLMInferenceService) asks
for devices in two ways: extended resources in `limits`, from which the scheduler makes one claim
for the Pod (KEP-5004), and `resourceClaims`. To the pods of an InferenceService in Knative mode an
admission policy adds the claim that an annotation of `relume render` names. A ResourceClaim or
template that no workload names is a problem by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from relume.cluster.claims.claim import Ask, Claim, ClaimRequest, claim_of
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.pods import (
    CLAIM_KINDS,
    COMPONENTS,
    UNSAID,
    Server,
    containers,
    pods,
    server_of,
)
from relume.cluster.claims.presets import IMPLICIT_PREFIX

__all__ = ["CLAIM_KINDS", "COMPONENTS", "Unit", "units"]

_NATIVE = ("hugepages-", "cpu", "memory", "ephemeral-storage", "pods", "storage")
_KNATIVE_DROPS = (
    "Knative mode drops spec.resourceClaims without a word: the pod gets no device from it (use "
    "extended resources, or Standard mode)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One problem: the claims of one Pod, or one claim. `notes` are shown beside the answer."""

    title: str
    document: Document
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    server: Server = UNSAID


def units(documents: Iterable[Document], known: Iterable[Document], classes: Classes) -> list[Unit]:
    """The problems in `documents`; `known` are further documents that may hold claims by name."""
    own = list(documents)
    claims = {d.title: d for d in (*known, *own) if d.kind in CLAIM_KINDS}
    named: set[str] = set()
    found = [unit for one in own for unit in _workload(one, claims, classes, named)]
    return found + [
        Unit(document.title, document, (claim_of(document),))
        for document in own
        if document.kind in CLAIM_KINDS and document.title not in named
    ]


def _workload(
    document: Document, claims: Mapping[str, Document], classes: Classes, named: set[str]
) -> Iterator[Unit]:
    """The problem of each Pod of a document; the titles of its claims are added to `named`."""
    for pod in pods(document):
        notes: list[str] = []
        made = [_extended(pod.spec, classes, notes)]
        entries = pod.spec.get("resourceClaims").items()
        if entries and not pod.honoured:
            notes.append(_KNATIVE_DROPS)
        elif entries:
            made += [_named(entry, document.namespace, claims, named, notes) for entry in entries]
        for kind, name in pod.added.items():
            made.append(_claim_named(kind, name.text(), document.namespace, claims, named, notes))
        found = (*pod.claims, *(one for one in made if one is not None))
        if found or notes:
            yield Unit(pod.title, document, found, tuple(notes), server_of(pod.spec))


def _extended(pod: Field, classes: Classes, notes: list[str]) -> Claim | None:
    """The claim that the scheduler makes for the extended resources of all containers."""
    requests: list[ClaimRequest] = []
    for i, container in enumerate(containers(pod)):
        for j, (resource, asked) in enumerate(_asked(container)):
            found = classes.serving(resource)
            amount = asked.quantity()
            if found is None and not resource.startswith(IMPLICIT_PREFIX):
                notes.append(
                    f"{resource}: no DeviceClass has this extendedResourceName, so a device "
                    "plugin must serve it; DRA has no part in it"
                )
                continue
            if amount != int(amount) or amount < 0:
                raise asked.wrong("must be a whole number of devices")
            name = resource.removeprefix(IMPLICIT_PREFIX) if found is None else found.name
            request = f"container-{i}-request-{j}"
            if amount:
                requests.append(ClaimRequest(request, (Ask(request, name, count=int(amount)),)))
    return Claim("extended-resources", tuple(requests)) if requests else None


def _asked(container: Field) -> list[tuple[str, Field]]:
    """The extended resources of a container, by name; limits and requests are equal for them."""
    resources = container.get("resources")
    asked = dict(resources.get("requests").entries()) | dict(resources.get("limits").entries())
    return sorted(
        (name, field)
        for name, field in asked.items()
        if "/" in name and not name.startswith(_NATIVE)
    )


def _named(
    entry: Field,
    namespace: str,
    claims: Mapping[str, Document],
    named: set[str],
    notes: list[str],
) -> Claim | None:
    """The claim that an entry of `resourceClaims` names; None, with a note, where there is none."""
    for kind in CLAIM_KINDS:
        name = entry.get(f"{kind[0].lower()}{kind[1:]}Name").text()
        if name:
            return _claim_named(kind, name, namespace, claims, named, notes)
    raise entry.wrong("needs resourceClaimName or resourceClaimTemplateName")


def _claim_named(
    kind: str,
    name: str,
    namespace: str,
    claims: Mapping[str, Document],
    named: set[str],
    notes: list[str],
) -> Claim | None:
    """The claim of that kind and name; None, with a note, where there is none to allocate."""
    title = f"{kind} {namespace}/{name}"
    found = claims.get(title)
    if found is None:
        notes.append(f"{title} is not in the files read")
        return None
    named.add(title)
    if Field.root(found).get("status", "allocation").there:
        notes.append(f"{title} is allocated already")
        return None
    return claim_of(found)
