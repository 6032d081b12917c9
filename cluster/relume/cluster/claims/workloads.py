"""From documents to problems: which claims must be allocated together, on one node.

A Pod (or what makes Pods: Deployment, Knative Service, InferenceService) asks for devices in two
ways: extended resources in `limits`, from which the scheduler makes one claim for the Pod
(KEP-5004), and `resourceClaims`. A ResourceClaim or template that no workload names is a problem
by itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.claims.claim_fields import Ask, Claim, Request, claim
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from relume.cluster.claims.presets import IMPLICIT_PREFIX

_PODS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}
_COMPONENTS = ("predictor", "transformer", "explainer")
_STANDARD = ("Standard", "RawDeployment")
_NATIVE = ("cpu", "memory", "ephemeral-storage", "pods", "storage")
_CLAIM_KINDS = ("ResourceClaim", "ResourceClaimTemplate")

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Unit:
    """One problem: the claims of one Pod, or one claim. `notes` are said beside the answer."""

    title: str
    document: Document
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()


def units(documents: Iterable[Document], known: Iterable[Document], classes: Classes) -> list[Unit]:
    """The problems in `documents`; `known` are further documents that may hold claims by name."""
    own = list(documents)
    claims = {
        (document.kind, document.namespace, document.name): document
        for document in (*known, *own)
        if document.kind in _CLAIM_KINDS
    }
    named: set[Key] = set()
    found = [unit for one in own for unit in _workload(one, claims, classes, named)]
    for document in own:
        key = (document.kind, document.namespace, document.name)
        if document.kind in _CLAIM_KINDS and key not in named:
            title = f"{document.kind} {document.namespace}/{document.name}"
            found.append(Unit(title, document, (claim_of(document),)))
    return found


def claim_of(document: Document) -> Claim:
    """The claim that a ResourceClaim is, or that a template makes."""
    spec = Field.root(document).need("spec")
    if document.kind == "ResourceClaimTemplate":
        spec = spec.need("spec")
    return claim(spec, document.name)


def _workload(
    document: Document, claims: Mapping[Key, Document], classes: Classes, named: set[Key]
) -> Iterator[Unit]:
    for title, pod, honoured in _pods(document):
        notes: list[str] = []
        made: list[Claim] = []
        extended = _extended(pod, classes, notes)
        if extended is not None:
            made.append(extended)
        for entry in pod.get("resourceClaims").items():
            if not honoured:
                notes.append(
                    "Knative mode drops spec.resourceClaims without a word: the pod gets no "
                    "device from it (use extended resources, or Standard mode)"
                )
                break
            found = _named(entry, document, claims, named, notes)
            if found is not None:
                made.append(found)
        if made or notes:
            yield Unit(title, document, tuple(made), tuple(notes))


def _pods(document: Document) -> Iterator[tuple[str, Field, bool]]:
    """Each Pod spec with a title, and whether its `resourceClaims` reach the Pod."""
    root = Field.root(document)
    title = f"{document.kind} {document.namespace}/{document.name}"
    if document.kind == "Pod":
        yield title, root.get("spec"), True
    elif document.kind in _PODS and document.group in ("apps", "batch"):
        yield title, root.get("spec", "template", "spec"), True
    elif document.kind == "CronJob":
        yield title, root.get("spec", "jobTemplate", "spec", "template", "spec"), True
    elif document.kind == "Service" and document.group == "serving.knative.dev":
        yield title, root.get("spec", "template", "spec"), False
    elif document.kind == "InferenceService":
        annotation = root.get("metadata", "annotations", DEPLOYMENT_MODE)
        for component in _COMPONENTS:
            pod = root.get("spec", component)
            if pod.there:
                yield f"{title} {component}", pod, annotation.value in _STANDARD


def _containers(pod: Field) -> list[Field]:
    """The containers in order; the model of a KServe predictor is one of them."""
    models = [
        field
        for name, field in pod.entries()
        if isinstance(field.value, Mapping) and "resources" in field.value
    ]
    return [*models, *pod.get("containers").items()]


def _extended(pod: Field, classes: Classes, notes: list[str]) -> Claim | None:
    requests: list[Request] = []
    for i, container in enumerate(_containers(pod)):
        for j, (resource, field) in enumerate(_asked(container)):
            found = classes.serving(resource)
            amount = field.quantity()
            if found is None and not resource.startswith(IMPLICIT_PREFIX):
                notes.append(
                    f"{resource}: no DeviceClass has this extendedResourceName, so a device "
                    "plugin must serve it; DRA has no part in it"
                )
                continue
            if amount != int(amount) or amount < 0:
                raise field.wrong("must be a whole number of devices")
            name = resource.removeprefix(IMPLICIT_PREFIX) if found is None else found.name
            request = f"container-{i}-request-{j}"
            if amount:
                ask = Ask(request, name, count=int(amount), place=field)
                requests.append(Request(request, (ask,)))
    return Claim("extended-resources", tuple(requests)) if requests else None


def _asked(container: Field) -> list[tuple[str, Field]]:
    """The extended resources of a container, by name; limits and requests are equal for them."""
    resources = container.get("resources")
    asked = dict(resources.get("requests").entries()) | dict(resources.get("limits").entries())
    return sorted(
        (name, field)
        for name, field in asked.items()
        if "/" in name and not name.startswith(("hugepages-", *_NATIVE))
    )


def _named(
    entry: Field,
    document: Document,
    claims: Mapping[Key, Document],
    named: set[Key],
    notes: list[str],
) -> Claim | None:
    for form, kind in (
        ("resourceClaimName", "ResourceClaim"),
        ("resourceClaimTemplateName", "ResourceClaimTemplate"),
    ):
        name = entry.get(form).text()
        if not name:
            continue
        key = (kind, document.namespace, name)
        found = claims.get(key)
        if found is None:
            notes.append(f"{kind} {document.namespace}/{name} is not in the files read")
            return None
        named.add(key)
        if Field.root(found).get("status", "allocation").there:
            notes.append(f"{kind} {document.namespace}/{name} is allocated already")
            return None
        return claim_of(found)
    raise entry.wrong("needs resourceClaimName or resourceClaimTemplateName")
