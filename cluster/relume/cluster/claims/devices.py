"""What ResourceSlices say about devices (resource.k8s.io/v1), as frozen values.

Slices of older API versions (v1beta1 puts a device's fields under `basic`) are read too. A large
inventory repeats itself, so equal attributes and capacities are read once and shared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.quantity import Quantity

T = TypeVar("T")
AttributeScalar = str | int | bool
AttributeKind = Literal["string", "int", "bool", "version"]
DeviceId = tuple[str, str, str]
"""Driver, pool and name: unique in a cluster."""
Counters = Mapping[tuple[str, str], Quantity]
"""Amounts by counter set and counter (KEP-4815)."""

# Kind and Python type of an attribute by its field; `strings`, `ints`, … hold lists (KEP-5491).
_FORMS: Mapping[str, tuple[AttributeKind, type]] = {
    "string": ("string", str),
    "int": ("int", int),
    "bool": ("bool", bool),
    "version": ("version", str),
}


@dataclass(frozen=True, slots=True)
class DeviceAttribute:
    """One attribute. A list attribute (KEP-5491) has a tuple as its value."""

    kind: AttributeKind
    value: AttributeScalar | tuple[AttributeScalar, ...]


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """How much of a capacity one request consumes (KEP-5075)."""

    default: Quantity | None = None
    valid_values: tuple[Quantity, ...] = ()
    least: Quantity | None = None
    most: Quantity | None = None
    step: Quantity | None = None

    @classmethod
    def read(cls, policy: Field) -> "RequestPolicy | None":
        """The `requestPolicy` of a capacity; None where it is absent."""
        if not policy.there:
            return None
        span = policy.get("validRange")
        default, least, most, step = (
            one.quantity() if one.there else None
            for one in (policy.get("default"), span.get("min"), span.get("max"), span.get("step"))
        )
        valid_values = tuple(item.quantity() for item in policy.get("validValues").items())
        return cls(default, valid_values, least, most, step)


@dataclass(frozen=True, slots=True)
class DeviceCapacity:
    """One capacity of a device."""

    value: Quantity
    policy: RequestPolicy | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """One device taint; only NoSchedule and NoExecute keep a device from being allocated."""

    key: str
    value: str
    effect: str

    @classmethod
    def read(cls, taint: Field) -> "Taint":
        key, effect = taint.need("key").text(), taint.need("effect").text()
        return cls(key, taint.get("value").text(), effect)

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One match expression of a core/v1 NodeSelector; with `field` it is about the node's name."""

    key: str
    operator: str
    values: tuple[str, ...]
    field: bool = False

    def holds(self, node: str, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels meets the requirement."""
        found = node if self.field else labels.get(self.key)
        match self.operator:
            case "In":
                return found is not None and found in self.values
            case "NotIn":
                return found is None or found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt":
                try:
                    difference = int(found or "") - int(self.values[0])
                except (ValueError, IndexError):
                    return False
                return difference > 0 if self.operator == "Gt" else difference < 0
        return False


@dataclass(frozen=True, slots=True)
class Placement:
    """On which nodes a device can be used. `terms` are alternatives, each a conjunction."""

    node: str | None = None
    everywhere: bool = False
    terms: tuple[tuple[Requirement, ...], ...] = ()

    @classmethod
    def read(cls, owner: Field) -> "Placement | None":
        """What a slice or a device says about nodes; None where it says nothing."""
        if not any(owner.get(name).there for name in ("nodeName", "nodeSelector", "allNodes")):
            return None
        node = owner.get("nodeName").text() or None
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
            for term in owner.get("nodeSelector", "nodeSelectorTerms").items()
        )
        return cls(node, owner.get("allNodes").boolean(), terms)

    def holds(self, node: str, labels: Mapping[str, str]) -> bool:
        """Whether a device that is placed so can be used on the node."""
        if self.node is not None:
            return self.node == node
        return self.everywhere or any(
            term and all(requirement.holds(node, labels) for requirement in term)
            for term in self.terms
        )


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """One device. Attributes and capacities are keyed `domain/id`; the driver's own are qualified.

    Two devices are the same only when they are one object: compare `ident`.
    """

    driver: str
    pool: str
    name: str
    attributes: Mapping[str, DeviceAttribute]
    capacity: Mapping[str, DeviceCapacity]
    counters: Counters
    taints: tuple[Taint, ...]
    shareable: bool
    placement: Placement

    @property
    def ident(self) -> DeviceId:
        return (self.driver, self.pool, self.name)

    @property
    def title(self) -> str:
        return f"{self.pool}/{self.name}"


def qualified(name: str, driver: str) -> str:
    """The full name of an attribute or capacity: the driver's own have no domain."""
    return name if "/" in name else f"{driver}/{name}"


def split(key: str) -> tuple[str, str]:
    """`domain/id` as (domain, id)."""
    domain, _, ident = key.partition("/")
    return domain, ident


@dataclass(frozen=True, slots=True)
class Slice:
    """One ResourceSlice. `expected` is how many slices its pool has in all."""

    name: str
    driver: str
    pool: str
    generation: int
    expected: int
    devices: tuple[Device, ...]
    counters: Counters


@dataclass(slots=True)
class SliceReader:
    """Reads slices and remembers the attributes and capacities that it has seen."""

    _attributes: dict[object, DeviceAttribute] = field(default_factory=dict)
    _capacities: dict[object, DeviceCapacity] = field(default_factory=dict)

    def read(self, document: Document) -> Slice:
        """One slice. Raises InvalidManifest naming file, line and field."""
        spec = Field.root(document).need("spec")
        driver = spec.need("driver").text()
        pool = spec.need("pool")
        name = pool.need("name").text()
        placement = Placement.read(spec) or Placement()
        return Slice(
            document.name,
            driver,
            name,
            pool.get("generation").integer(),
            pool.get("resourceSliceCount").integer(1, least=1),
            tuple(
                self._device(one, driver, name, placement) for one in spec.get("devices").items()
            ),
            _counters(spec.get("sharedCounters"), "name"),
        )

    def _device(self, item: Field, driver: str, pool: str, shared: Placement) -> Device:
        name = item.need("name").text()
        body = item.get("basic") if item.get("basic").there else item
        own = Placement.read(body)
        return Device(
            driver,
            pool,
            name,
            _section(body.get("attributes"), driver, self._attributes, _attribute),
            _section(body.get("capacity"), driver, self._capacities, _capacity),
            _counters(body.get("consumesCounters"), "counterSet"),
            tuple(Taint.read(taint) for taint in body.get("taints").items()),
            body.get("allowMultipleAllocations").boolean(),
            shared if own is None else own,
        )


def _section(
    section: Field, driver: str, known: dict[object, T], read: Callable[[Field], T]
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
        found[qualified(name, driver)] = one
    return found


def _hashable(value: object) -> object:
    """A key for a value that is a word, or one word under one name; None for any other value."""
    if type(value) is dict and len(value) == 1:
        [(form, content)] = value.items()
        # True and 1 are equal as keys, and not as attributes.
        return (form, content, type(content)) if isinstance(content, str | int) else None
    return value if isinstance(value, str) else None


def _attribute(field: Field) -> DeviceAttribute:
    entries = [(form, value) for form, value in field.entries() if value.there]
    if len(entries) != 1:
        raise field.wrong("must have exactly one of string, int, bool, version or their lists")
    [(form, value)] = entries
    if form in _FORMS:
        kind, wanted = _FORMS[form]
        return DeviceAttribute(kind, _checked(value, wanted))
    if form.endswith("s") and form[:-1] in _FORMS:
        kind, wanted = _FORMS[form[:-1]]
        return DeviceAttribute(kind, tuple(_checked(item, wanted) for item in value.items()))
    raise value.wrong(f"unknown kind of attribute: {form}")


def _checked(field: Field, wanted: type) -> AttributeScalar:
    if wanted is bool:
        return field.boolean()
    return field.integer(least=-(2**63)) if wanted is int else field.text()


def _capacity(field: Field) -> DeviceCapacity:
    if not isinstance(field.value, Mapping):
        return DeviceCapacity(field.quantity())
    return DeviceCapacity(
        field.get("value").quantity(), RequestPolicy.read(field.get("requestPolicy"))
    )


def _counters(sets: Field, name: str) -> Counters:
    """The counters of a list of counter sets, whose names are in the field `name`."""
    return {
        (entry.need(name).text(), counter): amount.need("value").quantity()
        for entry in sets.items()
        for counter, amount in entry.get("counters").entries()
    }
