"""Solve a problem on every node of an inventory, once for each distinct kind of node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relume.cluster.claims.claim import Ask
from relume.cluster.claims.devices import Device, DeviceAttribute
from relume.cluster.claims.inventory import Inventory, Pool
from relume.cluster.claims.matching import Matcher, consumed, untolerated
from relume.cluster.claims.quantity import Quantity
from relume.cluster.claims.search import (
    STEPS,
    Aborted,
    Candidate,
    CounterKey,
    NumberedAsk,
    Problem,
    Search,
    Taken,
    Undecided,
    Values,
    drawn,
)

_ALL_STEPS = 300_000  # devices tried on all nodes together; once they are used up,
_FEW_STEPS = 500  # so many on each node that is left

GroupKind = Literal["fits", "does not fit", "aborts", "undecided"]


@dataclass(frozen=True, slots=True)
class Place:
    """One node as the search sees it."""

    node: str
    candidates: tuple[Candidate, ...]
    counters: Mapping[CounterKey, Quantity]
    incomplete: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes that are alike for this problem, with one solution or one reason for all of them.

    `place` is the first of them; `taken` are its devices; `aborted` says on which device the
    selector of which ask fails.
    """

    kind: GroupKind
    nodes: tuple[str, ...]
    place: Place
    taken: tuple[Taken, ...] = ()
    aborted: Aborted | None = None


@dataclass(slots=True)
class Engine:
    """The matchers of one problem over one inventory, by number of the ask."""

    problem: Problem
    inventory: Inventory
    matchers: Mapping[int, Matcher]
    _steps: int = _ALL_STEPS
    _counters: dict[tuple[str, str], dict[CounterKey, Quantity]] = field(default_factory=dict)

    def solve(self) -> tuple[NodeGroup, ...]:
        """Every node in exactly one group; groups in the order of their first node."""
        places: dict[object, list[Place]] = {}
        for node, members in self.inventory.by_node():
            place = self._place(node.name, members)
            places.setdefault(_signature(place), []).append(place)
        return tuple(self._group(alike) for alike in places.values())

    @property
    def wants_all(self) -> bool:
        """Whether an ask is for all devices that match, which needs every pool to be complete."""
        return any(one.ask.mode == "All" for one in self.problem.asks)

    def _group(self, alike: Sequence[Place]) -> NodeGroup:
        place, nodes = alike[0], tuple(one.node for one in alike)
        if place.incomplete and self.wants_all:
            return NodeGroup("does not fit", nodes, place)
        search = self.search(place)
        allowed = search.steps
        try:
            taken = search.run()
        except Aborted as error:
            return NodeGroup("aborts", nodes, place, aborted=error)
        except Undecided:
            return NodeGroup("undecided", nodes, place)
        finally:
            self._steps -= allowed - search.steps
        return NodeGroup("fits" if taken is not None else "does not fit", nodes, place, taken or ())

    def search(self, place: Place, *ignore: object) -> Search:
        """A fresh search on one place; `ignore` as in Search."""
        return Search(
            self.problem,
            place.candidates,
            place.counters,
            {} if "capacity" in ignore else self.inventory.consumed,
            frozenset(ignore),
            max(_FEW_STEPS, min(STEPS, self._steps)),
        )

    def _place(self, node: str, members: Iterable[tuple[Pool, Device]]) -> Place:
        """The node as the search sees it; pools that are in trouble offer nothing."""
        candidates: list[Candidate] = []
        counters: dict[CounterKey, Quantity] = {}
        troubled: dict[tuple[str, str], Pool] = {}
        for pool, device in members:
            if pool.trouble is not None:
                troubled[pool.driver, pool.name] = pool
                continue
            if pool.counters:
                counters.update(self._available(pool))
            candidates.append(self._candidate(device))
        return Place(node, tuple(candidates), counters, tuple(troubled.values()))

    def _candidate(self, device: Device) -> Candidate:
        """All that the search asks of a device, worked out once."""
        asks = self.problem.asks
        held = device.ident in self.inventory.used
        verdicts = tuple(self._verdict(one, device, held) for one in asks)
        takes = tuple(_takes(one.ask, device) for one in asks)
        usable = tuple(
            take is not None
            and (one.ask.admin_access or not held)
            and untolerated(one.ask, device) is None
            for one, take in zip(asks, takes, strict=True)
        )
        values = tuple(
            _values(device.attributes.get(constraint.attribute))
            for constraint in self.problem.constraints
        )
        counted = tuple(sorted(device.counters.items()))
        own_pool = (device.driver, device.pool) if device.counters else None
        kind = (verdicts, usable, values, own_pool, counted, self._share(device, takes))
        return Candidate(device, verdicts, usable, takes, values, kind)

    def _share(self, device: Device, takes: Iterable[Mapping[str, Quantity] | None]) -> object:
        """What tells one shareable device from another; None for any other device."""
        if not device.shareable:
            return None
        there = frozenset((name, capacity.value) for name, capacity in device.capacity.items())
        gone = _frozen(self.inventory.consumed.get(device.ident))
        return there, gone, tuple(_frozen(take) for take in takes)

    def _verdict(self, one: NumberedAsk, device: Device, held: bool) -> str:
        # The scheduler looks at a device's selectors only when the device is free, except to count
        # what "all" is.
        if held and one.ask.mode != "All" and not one.ask.admin_access:
            return "in use"
        return self.matchers[one.number].decide(device).verdict

    def _available(self, pool: Pool) -> dict[CounterKey, Quantity]:
        """The pool's counters less what devices in use consume."""
        known = self._counters.get((pool.driver, pool.name))
        if known is not None:
            return known
        left = {(pool.driver, pool.name, *key): amount for key, amount in pool.counters.items()}
        for device in pool.devices:
            if device.ident in self.inventory.used or device.ident in self.inventory.consumed:
                for key, amount in drawn(device):
                    left[key] -= amount
        self._counters[pool.driver, pool.name] = left
        return left


def _takes(ask: Ask, device: Device) -> Mapping[str, Quantity] | None:
    plain = not ask.capacity and not device.shareable
    if plain and all(capacity.policy is None for capacity in device.capacity.values()):
        return {}
    return consumed(ask, device)


def _values(attribute: DeviceAttribute | None) -> Values | None:
    if attribute is None:
        return None
    many = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
    # A version, a string and a number are never the same value.
    return frozenset(f"{attribute.kind}:{value}" for value in many)


def _frozen(amounts: Mapping[str, Quantity] | None) -> object:
    return None if amounts is None else frozenset(amounts.items())


def _signature(place: Place) -> object:
    """Equal for two nodes on which the search takes the same course.

    Attribute values and pool names differ between nodes and only their equality counts, so they
    are numbered in the order in which they appear.
    """
    numbers: list[dict[object, int]] = []
    pools: dict[tuple[str, str], int] = {}
    devices = []
    for candidate in place.candidates:
        while len(numbers) < len(candidate.values):
            numbers.append({})
        values = tuple(
            None if held is None else tuple(sorted(known.setdefault(v, len(known)) for v in held))
            for known, held in zip(numbers, candidate.values, strict=True)
        )
        device = candidate.device
        pool = pools.setdefault((device.driver, device.pool), len(pools))
        counted = (pool, *sorted(device.counters.items())) if device.counters else None
        share = candidate.kind[-1]
        devices.append((candidate.verdicts, candidate.usable, values, counted, share))
    left = tuple(
        sorted(
            (pools.get((driver, pool), -1), counter_set, counter, amount)
            for (driver, pool, counter_set, counter), amount in place.counters.items()
        )
    )
    troubled = tuple(sorted((pool.driver, pool.trouble or "") for pool in place.incomplete))
    return (tuple(devices), left, troubled)
