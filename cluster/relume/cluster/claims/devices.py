"""What a ResourceSlice says about a device (resource.k8s.io/v1), as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from relume.cluster.claims.quantity import Quantity
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from relume.cluster.claims.devices import (
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
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field


Scalar = str | int | bool
AttributeKind = Literal["string", "int", "bool", "version"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. A list attribute (KEP-5491) has a tuple as its value."""

    kind: AttributeKind
    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """`requestPolicy`: how much of a capacity one request consumes (KEP-5075)."""

    default: Quantity | None = None
    valid_values: tuple[Quantity, ...] = ()
    least: Quantity | None = None
    most: Quantity | None = None
    step: Quantity | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """One capacity; `text` is the quantity as it was written."""

    value: Quantity
    text: str
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """One device taint; only NoSchedule and NoExecute keep a device from being allocated."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """One match expression of a node selector."""

    key: str
    operator: str
    values: tuple[str, ...]
    field: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """On which nodes a device can be used. `terms` are alternatives, each a conjunction."""

    node: str | None = None
    everywhere: bool = False
    terms: tuple[tuple[Requirement, ...], ...] = ()


Names = Mapping[str, Quantity]


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One device. Attributes and capacities are keyed `domain/id`; the driver's own are qualified.

    `counters` are (counter set, counter) and amount. Two devices are the same only when they are
    one object: compare `ident`.
    """

    driver: str
    pool: str
    name: str
    attributes: Mapping[str, Attribute]
    capacity: Mapping[str, Capacity]
    counters: Mapping[tuple[str, str], Quantity]
    taints: tuple[Taint, ...]
    shareable: bool
    placement: Placement

    @property
    def ident(self) -> tuple[str, str, str]:
        """Driver, pool and name: unique in a cluster."""
        return (self.driver, self.pool, self.name)

    @property
    def title(self) -> str:
        return f"{self.pool}/{self.name}"


def split(key: str) -> tuple[str, str]:
    """`domain/id` as (domain, id)."""
    domain, _, ident = key.partition("/")
    return domain, ident


def matches(placement: Placement, node: str, labels: Mapping[str, str]) -> bool:
    """Whether the placement holds the node (core/v1 NodeSelector semantics)."""
    if placement.node is not None:
        return placement.node == node
    if placement.everywhere:
        return True
    return any(
        term and all(_holds(requirement, node, labels) for requirement in term)
        for term in placement.terms
    )


def _holds(requirement: Requirement, node: str, labels: Mapping[str, str]) -> bool:
    found = node if requirement.field else labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return found is not None and found in requirement.values
        case "NotIn":
            return found is None or found not in requirement.values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt":
            try:
                difference = int(found or "") - int(requirement.values[0])
            except (ValueError, IndexError):
                return False
            return difference > 0 if requirement.operator == "Gt" else difference < 0
    return False


T = TypeVar("T")

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

    _attributes: dict[object, Attribute] = field(default_factory=dict)
    _capacities: dict[object, Capacity] = field(default_factory=dict)

    def read(self, document: Document) -> Slice:
        """One slice. Raises InvalidManifest naming file, line and field."""
        spec = Field.root(document).need("spec")
        driver = spec.need("driver").text()
        pool = spec.need("pool")
        name = pool.need("name").text()
        placement = _placement(spec) or Placement()
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
        own = _placement(body)
        return Device(
            driver,
            pool,
            name,
            self._read(body.get("attributes"), driver, self._attributes, _attribute),
            self._read(body.get("capacity"), driver, self._capacities, _capacity),
            _consumed(body),
            tuple(_taint(taint) for taint in body.get("taints").items()),
            body.get("allowMultipleAllocations").boolean(),
            shared if own is None else own,
        )

    def _read(
        self,
        section: Field,
        driver: str,
        known: dict[object, T],
        read: Callable[[Field], T],
    ) -> dict[str, T]:
        """A section of a device by full name; a value that was read before is not read again."""
        found: dict[str, T] = {}
        for name, value in section.raw_entries():
            key = _hashable(value)
            one = None if key is None else known.get(key)
            if one is None:
                one = read(section.below(name, value))
                if key is not None:
                    known[key] = one
            found[name if "/" in name else f"{driver}/{name}"] = one
        return found


def _hashable(value: object) -> object:
    """What stands for a value that is a word, or one word under one name; None for any other."""
    if type(value) is dict and len(value) == 1:
        [(form, content)] = value.items()
        # True and 1 are equal as keys, and not as attributes.
        return (form, content, type(content)) if isinstance(content, str | int) else None
    return value if isinstance(value, str) else None


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


def _placement(field: Field) -> Placement | None:
    """None where the field says nothing of nodes."""
    if not any(field.get(name).there for name in ("nodeName", "nodeSelector", "allNodes")):
        return None
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
