"""From ResourceSlice documents to devices.

Slices of older API versions (v1beta1 puts a device's fields under `basic`) are read too. A large
inventory repeats itself, so equal attributes, capacities and taints are read once and shared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from relume.config.claims.devices import (
    Attribute,
    AttributeKind,
    Capacity,
    Device,
    Placement,
    Policy,
    Requirement,
    Scalar,
    Taint,
)
from relume.config.claims.documents import Document
from relume.config.claims.fields import Field
from relume.config.claims.quantity import Quantity

_ONE: Mapping[str, tuple[AttributeKind, type]] = {
    "string": ("string", str),
    "int": ("int", int),
    "bool": ("bool", bool),
    "version": ("version", str),
}
_MANY: Mapping[str, tuple[AttributeKind, type]] = {
    f"{name}s": entry for name, entry in _ONE.items()
}


@dataclass(frozen=True, slots=True)
class Slice:
    """One ResourceSlice. Counter sets are (set, counter) and the amount there is."""

    document: Document
    name: str
    driver: str
    pool: str
    generation: int
    expected: int
    devices: tuple[Device, ...]
    counters: Mapping[tuple[str, str], Quantity]


@dataclass(slots=True)
class SliceReader:
    """Reads slices and remembers the attributes that it has seen."""

    _attributes: dict[tuple[str, object], Attribute] = field(default_factory=dict)
    _capacities: dict[str, Capacity] = field(default_factory=dict)

    def read(self, document: Document) -> Slice:
        """One slice. Raises InvalidManifest naming file, line and field."""
        spec = Field.root(document).need("spec")
        driver = spec.need("driver").text()
        pool = spec.need("pool")
        name = pool.need("name").text()
        placement = _placement(spec)
        devices = tuple(
            self._device(item, driver, name, placement) for item in spec.get("devices").items()
        )
        return Slice(
            document,
            document.name,
            driver,
            name,
            pool.get("generation").integer(),
            pool.get("resourceSliceCount").integer(1, least=1),
            devices,
            _shared_counters(spec),
        )

    def _device(self, item: Field, driver: str, pool: str, shared: Placement) -> Device:
        name = item.need("name").text()
        body = item.get("basic") if item.get("basic").there else item
        multiple = body.get("allowMultipleAllocations").boolean()
        own = _placement(body)
        return Device(
            driver,
            pool,
            name,
            {_full(k, driver): self._attribute(f) for k, f in body.get("attributes").entries()},
            {_full(k, driver): self._capacity(f) for k, f in body.get("capacity").entries()},
            _consumed(body),
            tuple(_taint(taint) for taint in body.get("taints").items()),
            multiple,
            own if own != Placement() else shared,
        )

    def _attribute(self, field: Field) -> Attribute:
        value = field.value
        if isinstance(value, Mapping) and len(value) == 1:
            (form, content), *_ = value.items()
            if isinstance(content, str | int):
                key = (str(form), (content, type(content)))
                known = self._attributes.get(key)
                if known is None:
                    known = self._attributes[key] = _attribute(field)
                return known
        return _attribute(field)

    def _capacity(self, field: Field) -> Capacity:
        value = field.value
        plain = value.get("value") if isinstance(value, Mapping) and len(value) == 1 else value
        if not isinstance(plain, str):
            return _capacity(field)
        known = self._capacities.get(plain)
        if known is None:
            known = self._capacities[plain] = _capacity(field)
        return known


def _full(name: str, driver: str) -> str:
    return name if "/" in name else f"{driver}/{name}"


def _attribute(field: Field) -> Attribute:
    entries = [(form, value) for form, value in field.entries() if value.there]
    if len(entries) != 1:
        raise field.wrong("must have exactly one of string, int, bool, version or their lists")
    form, value = entries[0]
    if form in _ONE:
        kind, wanted = _ONE[form]
        return Attribute(kind, _checked(value, wanted))
    if form in _MANY:
        kind, wanted = _MANY[form]
        return Attribute(kind, tuple(_checked(item, wanted) for item in value.items()))
    raise value.wrong(f"unknown kind of attribute: {form}")


def _checked(field: Field, wanted: type) -> Scalar:
    if wanted is bool:
        return field.boolean()
    return field.integer(least=-(2**63)) if wanted is int else field.text()


def _capacity(field: Field) -> Capacity:
    held = field.get("value") if isinstance(field.value, Mapping) else field
    policy = field.get("requestPolicy") if isinstance(field.value, Mapping) else None
    return Capacity(held.quantity(), str(held.value), _policy(policy) if policy else None)


def _policy(field: Field) -> Policy | None:
    if not field.there:
        return None
    span = field.get("validRange")
    return Policy(
        _optional(field.get("default")),
        tuple(item.quantity() for item in field.get("validValues").items()),
        _optional(span.get("min")),
        _optional(span.get("max")),
        _optional(span.get("step")),
    )


def _optional(field: Field) -> Quantity | None:
    return field.quantity() if field.there else None


def _consumed(body: Field) -> dict[tuple[str, str], Quantity]:
    return {
        (entry.need("counterSet").text(), name): counter.need("value").quantity()
        for entry in body.get("consumesCounters").items()
        for name, counter in entry.get("counters").entries()
    }


def _shared_counters(spec: Field) -> dict[tuple[str, str], Quantity]:
    return {
        (entry.need("name").text(), name): counter.need("value").quantity()
        for entry in spec.get("sharedCounters").items()
        for name, counter in entry.get("counters").entries()
    }


def _taint(field: Field) -> Taint:
    effect = field.need("effect").text()
    return Taint(field.need("key").text(), field.get("value").text(), effect)


def _placement(field: Field) -> Placement:
    node = field.get("nodeName").text() or None
    terms = tuple(
        tuple(
            Requirement(
                expression.need("key").text(),
                expression.need("operator").text(),
                tuple(value.text() for value in expression.get("values").items()),
                of == "matchFields",
            )
            for of in ("matchExpressions", "matchFields")
            for expression in term.get(of).items()
        )
        for term in field.get("nodeSelector", "nodeSelectorTerms").items()
    )
    return Placement(node, field.get("allNodes").boolean(), terms)
