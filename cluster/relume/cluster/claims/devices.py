"""What a ResourceSlice says about a device (resource.k8s.io/v1), as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from relume.cluster.claims.quantity import Quantity

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
