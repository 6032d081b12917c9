"""The allocation of one pod's claims on one node: first fit with backtracking, as the scheduler.

The devices are tried in the scheduler's order and the first solution is the scheduler's own, with
one shortcut: when a device has failed, those that are its equal in every respect are passed over.
Semantics: KEP-4381 (requests, constraints), 4816 (firstAvailable), 4815 (counters), 5075 (shares).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from relume.cluster.claims.claim_fields import Ask, Claim, Constraint
from relume.cluster.claims.devices import Device, Scalar
from relume.cluster.claims.quantity import Quantity
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from relume.cluster.claims.claim_fields import MOST_DEVICES
from relume.cluster.claims.problem import (
    Aborted,
    Candidate,
    CounterKey,
    Numbered,
    Problem,
    Taken,
    Undecided,
    Values,
)


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


STEPS = 20_000
"""Devices tried on one node before the search is given up."""


@dataclass(slots=True)
class Search:
    """One search. `ignore` names what is left out to find out what is in the way."""

    problem: Problem
    candidates: Sequence[Candidate]
    counters: Mapping[CounterKey, Quantity]
    consumed: Mapping[tuple[str, str, str], Mapping[str, Quantity]]
    ignore: frozenset[object] = frozenset()
    steps: int = STEPS
    _result: list[Taken] = field(default_factory=list)
    _busy: set[int] = field(default_factory=set)
    _counted: dict[CounterKey, Quantity] = field(default_factory=dict)
    _shares: dict[int, dict[str, Quantity]] = field(default_factory=dict)

    def run(self) -> tuple[Taken, ...] | None:
        """The first solution, or None. Raises Aborted and Undecided."""
        for _, _, numbered in self.problem.each_ask():
            if numbered.ask.mode == "All":
                self._check_errors(numbered, 0)
        return tuple(self._result) if self._request(0, 0) else None

    def _request(self, claim: int, request: int) -> bool:
        if claim == len(self.problem.claims):
            return True
        if request == len(self.problem.asks[claim]):
            return self._request(claim + 1, 0)
        return any(
            self._all(claim, request, one)
            if one.ask.mode == "All"
            else self._some(claim, request, one, one.ask.count, 0)
            for one in self.problem.asks[claim][request]
        )

    def _all(self, claim: int, request: int, one: Numbered) -> bool:
        """Every device that matches, or none."""
        wanted = [i for i, c in enumerate(self.candidates) if c.verdicts[one.number] == "match"]
        before = len(self._result)
        fits = bool(wanted) and self._holding(claim) + len(wanted) <= MOST_DEVICES
        fits = fits and all(self._take(claim, request, one, i) for i in wanted)
        if fits and self._request(claim, request + 1):
            return True
        while len(self._result) > before:
            self._give_back()
        return False

    def _some(self, claim: int, request: int, one: Numbered, count: int, start: int) -> bool:
        """`count` more devices for the ask, from position `start` on."""
        if count == 0:
            return self._request(claim, request + 1)
        if self._holding(claim) + count > MOST_DEVICES:
            return False
        failed: set[object] = set()
        rare = self._rare_values(one, count, start)
        for i in range(start, len(self.candidates)):
            candidate = self.candidates[i]
            if candidate.verdicts[one.number] == "error" and not self._unavailable(one, i):
                raise Aborted(candidate, one.number)
            if candidate.verdicts[one.number] != "match":
                continue
            alike = (candidate.kind, i in self._busy, self._share_of(i))
            if alike in failed:
                continue
            self.steps -= 1
            if self.steps < 0:
                raise Undecided
            if not self._is_rare(candidate, rare) and self._take(claim, request, one, i):
                if self._some(claim, request, one, count - 1, i + 1):
                    return True
                self._give_back()
            failed.add(alike)
        return False

    def _check_errors(self, one: Numbered, start: int) -> None:
        for candidate in self.candidates[start:]:
            if candidate.verdicts[one.number] == "error":
                raise Aborted(candidate, one.number)

    def _rare_values(self, one: Numbered, count: int, start: int) -> list[tuple[int, set[Values]]]:
        """For each matchAttribute: the values that too few devices share to be worth a try.

        None where a selector fails on some device: the scheduler's vain try would come to it.
        """
        rare: list[tuple[int, set[Values]]] = []
        if any(c.verdicts[one.number] == "error" for c in self.candidates[start:]):
            return rare
        for number in one.constraints if count > 1 else ():
            if self.problem.constraints[number].distinct or self._ignored(number):
                continue
            shared = Counter(
                values
                for c in self.candidates[start:]
                if c.verdicts[one.number] == "match" and (values := c.values[number]) is not None
            )
            if all(len(values) == 1 for values in shared):
                rare.append((number, {v for v, held in shared.items() if held < count}))
        return rare

    def _is_rare(self, candidate: Candidate, rare: list[tuple[int, set[Values]]]) -> bool:
        return any(candidate.values[number] in values for number, values in rare)

    def _ignored(self, what: object) -> bool:
        return what in self.ignore

    def _holding(self, claim: int) -> int:
        return sum(taken.claim == claim for taken in self._result)

    def _unavailable(self, one: Numbered, position: int) -> bool:
        """In use, so that the scheduler does not even look at its selectors."""
        return not one.ask.admin_access and position in self._busy

    def _share_of(self, position: int) -> object:
        share = self._shares.get(position)
        return frozenset(share.items()) if share else None

    def _take(self, claim: int, request: int, one: Numbered, position: int) -> bool:
        """Give the device to the ask if nothing forbids it."""
        candidate = self.candidates[position]
        if not candidate.usable[one.number] or not self._is_free(claim, one, position):
            return False
        if not self._constraints_hold(one, candidate):
            return False
        if not self._counters_suffice(one, candidate, position):
            return False
        self._result.append(Taken(claim, request, one, candidate, position))
        self._account(one, candidate, position, 1)
        return True

    def _give_back(self) -> None:
        taken = self._result.pop()
        self._account(taken.ask, taken.candidate, taken.position, -1)

    def _is_free(self, claim: int, one: Numbered, position: int) -> bool:
        device = self.candidates[position].device
        if one.ask.admin_access:
            return all(t.claim != claim or t.position != position for t in self._result)
        if not device.shareable:
            return position not in self._busy
        takes = self.candidates[position].takes[one.number] or {}
        before = self.consumed.get(device.ident, {})
        now = self._shares.get(position, {})
        return self._ignored("capacity") or all(
            before.get(name, 0) + now.get(name, 0) + amount <= device.capacity[name].value
            for name, amount in takes.items()
        )

    def _constraints_hold(self, one: Numbered, candidate: Candidate) -> bool:
        for number in one.constraints:
            if self._ignored(number):
                continue
            values = candidate.values[number]
            if values is None:
                return False
            others = [
                held
                for taken in self._result
                if number in taken.ask.constraints
                and (held := taken.candidate.values[number]) is not None
            ]
            if self.problem.constraints[number].distinct:
                if any(values & held for held in others):
                    return False
            elif others and not values.intersection(*others):
                return False
        return True

    def _counters_suffice(self, one: Numbered, candidate: Candidate, position: int) -> bool:
        device = candidate.device
        if not device.counters or self._ignored("counters") or one.ask.admin_access:
            return True
        if device.shareable and (self._shares.get(position) or device.ident in self.consumed):
            return True  # counted when its first share was taken
        for (counter_set, counter), amount in device.counters.items():
            key = (device.driver, device.pool, counter_set, counter)
            if self._counted.get(key, 0) + amount > self.counters.get(key, 0):
                return False
        return True

    def _account(self, one: Numbered, candidate: Candidate, position: int, sign: int) -> None:
        if one.ask.admin_access:
            return
        device = candidate.device
        first = True
        if device.shareable:
            share = self._shares.setdefault(position, {})
            others = sum(taken.position == position for taken in self._result)
            first = others == (1 if sign > 0 else 0) and device.ident not in self.consumed
            for name, amount in (candidate.takes[one.number] or {}).items():
                share[name] = share.get(name, 0) + sign * amount
            if not any(share.values()):
                del self._shares[position]
        elif sign > 0:
            self._busy.add(position)
        else:
            self._busy.discard(position)
        for (counter_set, counter), amount in device.counters.items() if first else ():
            key = (device.driver, device.pool, counter_set, counter)
            self._counted[key] = self._counted.get(key, 0) + sign * amount
