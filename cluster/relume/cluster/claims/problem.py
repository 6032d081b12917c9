"""What a search works on: the asks of a pod's claims, numbered, and the devices of one node."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.cluster.claims.claim_fields import Ask, Claim, Constraint
from relume.cluster.claims.devices import Device, Scalar
from relume.cluster.claims.quantity import Quantity

Values = frozenset[Scalar]
CounterKey = tuple[str, str, str, str]


class Aborted(Exception):
    """The scheduler stops: a selector fails at run time on a device that it must look at."""

    def __init__(self, candidate: "Candidate", number: int) -> None:
        super().__init__(candidate.device.title)
        self.candidate = candidate
        self.number = number


class Undecided(Exception):
    """The search was given up after too many steps."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A device on this node with all that the search asks of it, by number of the ask.

    `verdicts`: selectors. `usable`: tolerated, capacity there, not in use. `takes`: capacities
    consumed of a shareable device. `values`: of each constraint's attribute, None where it has
    none. `kind`: equal for devices that are interchangeable; its last part is of shareable ones.
    """

    device: Device
    verdicts: tuple[str, ...]
    usable: tuple[bool, ...]
    takes: tuple[Mapping[str, Quantity] | None, ...]
    values: tuple[Values | None, ...]
    kind: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Numbered:
    """An ask with its number among all asks of the problem, and the constraints that concern it."""

    number: int
    ask: Ask
    constraints: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """The claims that must be allocated together on one node."""

    claims: tuple[Claim, ...]
    asks: tuple[tuple[tuple[Numbered, ...], ...], ...]
    constraints: tuple[Constraint, ...]

    @classmethod
    def of(cls, claims: Sequence[Claim]) -> "Problem":
        number, first, asks = 0, 0, []
        constraints: list[Constraint] = []
        for claim in claims:
            own = []
            for request in claim.requests:
                numbered = []
                for ask in request.asks:
                    concerned = tuple(
                        first + i
                        for i, constraint in enumerate(claim.constraints)
                        if constraint.concerns(request, ask)
                    )
                    numbered.append(Numbered(number, ask, concerned))
                    number += 1
                own.append(tuple(numbered))
            asks.append(tuple(own))
            constraints += claim.constraints
            first += len(claim.constraints)
        return cls(tuple(claims), tuple(asks), tuple(constraints))

    def each_ask(self) -> Iterator[tuple[Claim, int, Numbered]]:
        """Every ask with its claim and the number of its request there, by number."""
        for claim, own in zip(self.claims, self.asks, strict=True):
            for request, numbered in enumerate(own):
                for one in numbered:
                    yield claim, request, one


@dataclass(frozen=True, slots=True)
class Taken:
    """One device of the solution."""

    claim: int
    request: int
    ask: Numbered
    candidate: Candidate
    position: int
