"""ResourceClaims and their templates (resource.k8s.io/v1) as frozen values.

Reads v1, v1beta2, and v1beta1, which puts the fields of `exactly` on the request itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from relume.cluster.claims.classes import Selector, selectors
from relume.cluster.claims.devices import Taint
from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.quantity import Quantity

AllocationMode = Literal["ExactCount", "All"]
MOST_DEVICES = 32
"""Devices that one claim can hold (`AllocationResultsMaxSize`)."""


@dataclass(frozen=True, slots=True)
class Toleration:
    """One toleration; an empty key with Exists tolerates everything."""

    key: str
    operator: str
    value: str
    effect: str

    def holds(self, taint: Taint) -> bool:
        """Whether the taint is tolerated."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or self.value == taint.value


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request, or one alternative of it, asks for."""

    name: str
    class_name: str
    selectors: tuple[Selector, ...] = ()
    mode: AllocationMode = "ExactCount"
    count: int = 1
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    capacity: Mapping[str, Quantity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """One request: `asks` has one entry for `exactly`, several for `firstAvailable`."""

    name: str
    asks: tuple[Ask, ...]
    prioritized: bool = False

    def title(self, ask: Ask) -> str:
        """How one of its asks is named: `request`, or `request/alternative`."""
        return f"{self.name}/{ask.name}" if self.prioritized else self.name


@dataclass(frozen=True, slots=True)
class Constraint:
    """All devices of `requests` (of the whole claim when empty) share, or never share, a value."""

    attribute: str
    distinct: bool
    requests: tuple[str, ...] = ()

    def concerns(self, request: ClaimRequest, ask: Ask) -> bool:
        """Whether the devices of this ask are held to the constraint."""
        return not self.requests or bool({request.name, request.title(ask)} & {*self.requests})

    @property
    def kind(self) -> str:
        """The field in which it is written."""
        return "distinctAttribute" if self.distinct else "matchAttribute"


@dataclass(frozen=True, slots=True)
class Claim:
    """The devices that are allocated together as one claim."""

    name: str
    requests: tuple[ClaimRequest, ...]
    constraints: tuple[Constraint, ...] = ()


def claim_of(document: Document) -> Claim:
    """The claim that a ResourceClaim is, or that a template makes.

    Raises InvalidManifest naming the field that is wrong.
    """
    spec = Field.root(document).need("spec")
    if document.kind == "ResourceClaimTemplate":
        spec = spec.need("spec")
    devices = spec.get("devices")
    items = devices.get("requests").items()
    requests = tuple(_request(item) for item in items)
    names = [request.name for request in requests]
    for item, request in zip(items, requests, strict=True):
        if names.count(request.name) > 1:
            raise item.get("name").wrong(f"the name {request.name} is there twice")
    known = {*names, *(r.title(ask) for r in requests for ask in r.asks)}
    constraints = tuple(_constraint(item, known) for item in devices.get("constraints").items())
    return Claim(document.name, requests, constraints)


def _request(item: Field) -> ClaimRequest:
    name = item.need("name").text()
    alternatives = item.get("firstAvailable")
    exactly = item.get("exactly")
    if alternatives.there:
        if exactly.there:
            raise item.wrong("has both exactly and firstAvailable: write one of them")
        asks = tuple(
            _ask(one, alternative := one.need("name").text(), f"request {name}/{alternative}")
            for one in alternatives.items()
        )
        if not asks:
            raise alternatives.wrong("must have at least one alternative")
        return ClaimRequest(name, asks, prioritized=True)
    if not exactly.there and not item.get("deviceClassName").there:
        raise item.wrong("needs exactly or firstAvailable")
    return ClaimRequest(name, (_ask(exactly if exactly.there else item, name, f"request {name}"),))


def _ask(body: Field, name: str, source: str) -> Ask:
    mode = body.get("allocationMode").one_of("ExactCount", "All")
    if mode == "All" and body.get("count").there:
        raise body.get("count").wrong("must not be set together with allocationMode All")
    return Ask(
        name,
        body.need("deviceClassName").text(),
        selectors(body, source),
        "All" if mode == "All" else "ExactCount",
        body.get("count").integer(1, least=1),
        body.get("adminAccess").boolean(),
        tuple(_toleration(item) for item in body.get("tolerations").items()),
        body.get("capacity", "requests").quantities(),
    )


def _toleration(item: Field) -> Toleration:
    return Toleration(
        item.get("key").text(),
        item.get("operator").one_of("Equal", "Exists"),
        item.get("value").text(),
        item.get("effect").text(),
    )


def _constraint(item: Field, known: Iterable[str]) -> Constraint:
    names = item.get("requests").items()
    for name in names:
        if name.text() not in known:
            raise name.wrong(f"no request is named {name.text()}")
    match, distinct = item.get("matchAttribute"), item.get("distinctAttribute")
    if match.there == distinct.there:
        raise item.wrong("must have exactly one of matchAttribute and distinctAttribute")
    attribute = match if match.there else distinct
    if "/" not in attribute.text():
        raise attribute.wrong("must be qualified with a domain, as in gpu.nvidia.com/model")
    return Constraint(attribute.text(), distinct.there, tuple(name.text() for name in names))
