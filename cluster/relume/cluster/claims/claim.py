"""ResourceClaims, their templates and DeviceClasses (resource.k8s.io/v1) as frozen values.

Reads v1, v1beta2, and v1beta1, which puts the fields of `exactly` on the request itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from relume.cluster.claims.devices import Taint
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from relume.cluster.claims.quantity import Quantity

Mode = Literal["ExactCount", "All"]
MOST_DEVICES = 32
"""Devices that one claim can hold (`AllocationResultsMaxSize`)."""


@dataclass(frozen=True, slots=True)
class Selector:
    """One CEL expression and where it was written, in words and as a place."""

    expression: str
    source: str
    field: Field | None = field(default=None, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """One DeviceClass. `shipped` marks one that is not in any document read."""

    name: str
    selectors: tuple[Selector, ...]
    extended_resource: str | None = None
    created: str = ""
    shipped: bool = False


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
    mode: Mode = "ExactCount"
    count: int = 1
    admin_access: bool = False
    tolerations: tuple[Toleration, ...] = ()
    capacity: Mapping[str, Quantity] = field(default_factory=dict)
    place: Field | None = field(default=None, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `asks` has one entry for `exactly`, several for `firstAvailable`."""

    name: str
    asks: tuple[Ask, ...]
    prioritized: bool = False


@dataclass(frozen=True, slots=True)
class Constraint:
    """All devices of `requests` (of the whole claim when empty) share, or never share, a value."""

    attribute: str
    distinct: bool
    requests: tuple[str, ...] = ()

    def concerns(self, request: Request, ask: Ask) -> bool:
        """Whether the devices of this ask are held to the constraint."""
        own = (request.name, f"{request.name}/{ask.name}") if request.prioritized else (ask.name,)
        return not self.requests or any(name in self.requests for name in own)

    def __str__(self) -> str:
        kind = "distinctAttribute" if self.distinct else "matchAttribute"
        return f"{kind} {self.attribute}"


@dataclass(frozen=True, slots=True)
class Claim:
    """The devices that are allocated together as one claim."""

    name: str
    requests: tuple[Request, ...]
    constraints: tuple[Constraint, ...] = ()


def device_class(document: Document, *, shipped: bool = False) -> DeviceClass:
    """Read a DeviceClass."""
    root = Field.root(document)
    spec = root.get("spec")
    return DeviceClass(
        document.name,
        selectors(spec, f"class {document.name}"),
        spec.get("extendedResourceName").text() or None,
        str(root.get("metadata", "creationTimestamp").value or ""),
        shipped,
    )


def claim(spec: Field, name: str) -> Claim:
    """Read the spec of a claim. Raises InvalidManifest naming the field."""
    devices = spec.get("devices")
    requests = tuple(_request(item) for item in devices.get("requests").items())
    names = [request.name for request in requests]
    for item, request in zip(devices.get("requests").items(), requests, strict=True):
        if names.count(request.name) > 1:
            raise item.get("name").wrong(f"the name {request.name} is there twice")
    known = {*names, *(f"{r.name}/{a.name}" for r in requests if r.prioritized for a in r.asks)}
    constraints = tuple(_constraint(item, known) for item in devices.get("constraints").items())
    return Claim(name, requests, constraints)


def selectors(owner: Field, source: str) -> tuple[Selector, ...]:
    """The CEL selectors of a class or a request."""
    found = []
    for number, item in enumerate(owner.get("selectors").items()):
        expression = item.need("cel").need("expression")
        found.append(Selector(expression.text(), f"{source} selector {number}", expression))
    return tuple(found)


def _request(item: Field) -> Request:
    name = item.need("name").text()
    alternatives = item.get("firstAvailable")
    if alternatives.there:
        if item.get("exactly").there:
            raise item.wrong("has both exactly and firstAvailable: write one of them")
        asks = tuple(_ask(one, one.need("name").text(), name) for one in alternatives.items())
        if not asks:
            raise alternatives.wrong("must have at least one alternative")
        return Request(name, asks, prioritized=True)
    exactly = item.get("exactly")
    if not exactly.there and not item.get("deviceClassName").there:
        raise item.wrong("needs exactly or firstAvailable")
    return Request(name, (_ask(exactly if exactly.there else item, name, None),))


def _ask(body: Field, name: str, parent: str | None) -> Ask:
    title = f"request {parent}/{name}" if parent else f"request {name}"
    mode: Mode = "All" if _mode(body) == "All" else "ExactCount"
    if mode == "All" and body.get("count").there:
        raise body.get("count").wrong("must not be set together with allocationMode All")
    return Ask(
        name,
        body.need("deviceClassName").text(),
        selectors(body, title),
        mode,
        body.get("count").integer(1, least=1),
        body.get("adminAccess").boolean(),
        tuple(_toleration(item) for item in body.get("tolerations").items()),
        {key: value.quantity() for key, value in body.get("capacity", "requests").entries()},
        body,
    )


def _mode(body: Field) -> str:
    return body.get("allocationMode").one_of("ExactCount", "All")


def _toleration(item: Field) -> Toleration:
    return Toleration(
        item.get("key").text(),
        item.get("operator").one_of("Equal", "Exists"),
        item.get("value").text(),
        item.get("effect").text(),
    )


def _constraint(item: Field, known: Iterable[str]) -> Constraint:
    requests = tuple(name.text() for name in item.get("requests").items())
    for place, name in zip(item.get("requests").items(), requests, strict=True):
        if name not in known:
            raise place.wrong(f"no request is named {name}")
    match, distinct = item.get("matchAttribute"), item.get("distinctAttribute")
    if match.there == distinct.there:
        raise item.wrong("must have exactly one of matchAttribute and distinctAttribute")
    attribute = match if match.there else distinct
    if "/" not in attribute.text():
        raise attribute.wrong("must be qualified with a domain, as in gpu.nvidia.com/model")
    return Constraint(attribute.text(), distinct.there, requests)
