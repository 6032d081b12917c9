"""The allocation of one pod's claims on one node: first fit with backtracking, as the scheduler.

The devices are tried in the scheduler's order, so the first solution is the scheduler's own. There
is one shortcut: when a device has failed, the devices that equal it in every respect are skipped.
Semantics: KEP-4381 (requests, constraints), 4816 (firstAvailable), 4815 (counters), 5075 (shares).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from relume.cluster.claims.claim import MOST_DEVICES, Ask, Claim, ClaimRequest, Constraint
from relume.cluster.claims.devices import Device, DeviceId
from relume.cluster.claims.quantity import Quantity

STEPS = 20_000
"""Devices tried on one node before the search is given up."""

Values = frozenset[str]
"""The values of an attribute, of which one counts as the same when they are equal."""
CounterKey = tuple[str, str, str, str]
"""Driver, pool, counter set and counter."""


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
class NumberedAsk:
    """An ask with its number among all asks of the problem, and the constraints that concern it.

    `claim` and `request` are the numbers of its claim, and of its request in that claim.
    """

    number: int
    claim: int
    request: int
    ask: Ask
    constraints: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """The claims that must be allocated together on one node.

    `asks` has every ask by its number, `requests` for each request the asks of its alternatives.
    """

    claims: tuple[Claim, ...]
    asks: tuple[NumberedAsk, ...]
    requests: tuple[tuple[NumberedAsk, ...], ...]
    constraints: tuple[Constraint, ...]

    @classmethod
    def of(cls, claims: Sequence[Claim]) -> "Problem":
        asks: list[NumberedAsk] = []
        requests: list[tuple[NumberedAsk, ...]] = []
        constraints: list[Constraint] = []
        for number, claim in enumerate(claims):
            for place, request in enumerate(claim.requests):
                first = len(asks)
                for ask in request.asks:
                    concerned = tuple(
                        i
                        for i, constraint in enumerate(claim.constraints, len(constraints))
                        if constraint.concerns(request, ask)
                    )
                    asks.append(NumberedAsk(len(asks), number, place, ask, concerned))
                requests.append(tuple(asks[first:]))
            constraints += claim.constraints
        return cls(tuple(claims), tuple(asks), tuple(requests), tuple(constraints))

    def request_of(self, one: NumberedAsk) -> ClaimRequest:
        """The request of an ask."""
        return self.claims[one.claim].requests[one.request]

    def concerned(self, constraint: int) -> Iterator[NumberedAsk]:
        """The asks whose devices are held to the constraint."""
        return (one for one in self.asks if constraint in one.constraints)


@dataclass(frozen=True, slots=True)
class Taken:
    """One device of the solution."""

    ask: NumberedAsk
    candidate: Candidate
    position: int


@dataclass(slots=True)
class Search:
    """One search.

    `ignore` names conditions that are left out, to find out which of them is in the way: numbers
    of constraints, "counters" or "capacity".
    """

    problem: Problem
    candidates: Sequence[Candidate]
    counters: Mapping[CounterKey, Quantity]
    consumed: Mapping[DeviceId, Mapping[str, Quantity]]
    ignore: frozenset[object] = frozenset()
    steps: int = STEPS
    _result: list[Taken] = field(default_factory=list)
    _busy: set[int] = field(default_factory=set)
    _counted: dict[CounterKey, Quantity] = field(default_factory=dict)
    _shares: dict[int, dict[str, Quantity]] = field(default_factory=dict)

    def run(self) -> tuple[Taken, ...] | None:
        """The first solution, or None. Raises Aborted and Undecided."""
        for one in self.problem.asks:
            if one.ask.mode == "All":
                failing = next(self._failing(one, 0), None)
                if failing is not None:
                    raise Aborted(failing, one.number)
        return tuple(self._result) if self._request(0) else None

    def _request(self, number: int) -> bool:
        """Whether the requests from this number on can be served; then `_result` is complete."""
        if number == len(self.problem.requests):
            return True
        return any(
            self._all(number, one)
            if one.ask.mode == "All"
            else self._some(number, one, one.ask.count, 0)
            for one in self.problem.requests[number]
        )

    def _all(self, request: int, one: NumberedAsk) -> bool:
        """Take every device that matches, or none."""
        wanted = [i for i, c in enumerate(self.candidates) if c.verdicts[one.number] == "match"]
        before = len(self._result)
        fits = bool(wanted) and self._holding(one.claim) + len(wanted) <= MOST_DEVICES
        fits = fits and all(self._take(one, i) for i in wanted)
        if fits and self._request(request + 1):
            return True
        while len(self._result) > before:
            self._give_back()
        return False

    def _some(self, request: int, one: NumberedAsk, count: int, start: int) -> bool:
        """Take `count` more devices for the ask, from position `start` on."""
        if count == 0:
            return self._request(request + 1)
        if self._holding(one.claim) + count > MOST_DEVICES:
            return False
        failed: set[object] = set()
        rare = self._rare_values(one, count, start)
        for i in range(start, len(self.candidates)):
            candidate = self.candidates[i]
            verdict = candidate.verdicts[one.number]
            # The scheduler does not look at the selectors of a device that is in use.
            if verdict == "error" and (one.ask.admin_access or i not in self._busy):
                raise Aborted(candidate, one.number)
            if verdict != "match":
                continue
            share = self._shares.get(i)
            alike = (candidate.kind, i in self._busy, frozenset(share.items()) if share else None)
            if alike in failed:
                continue
            self.steps -= 1
            if self.steps < 0:
                raise Undecided
            if not any(candidate.values[n] in values for n, values in rare) and self._take(one, i):
                if self._some(request, one, count - 1, i + 1):
                    return True
                self._give_back()
            failed.add(alike)
        return False

    def _failing(self, one: NumberedAsk, start: int) -> Iterator[Candidate]:
        """The devices on which a selector of the ask fails."""
        return (c for c in self.candidates[start:] if c.verdicts[one.number] == "error")

    def _rare_values(
        self, one: NumberedAsk, count: int, start: int
    ) -> list[tuple[int, set[Values]]]:
        """For each matchAttribute: the values that fewer than `count` of the devices left share.

        A device with such a value need not be tried. The list is empty where a selector fails on
        some device: the scheduler does try them, and may come to that device on the way.
        """
        rare: list[tuple[int, set[Values]]] = []
        if count == 1 or any(self._failing(one, start)):
            return rare
        for number in one.constraints:
            if self.problem.constraints[number].distinct or number in self.ignore:
                continue
            shared = Counter(
                values
                for c in self.candidates[start:]
                if c.verdicts[one.number] == "match" and (values := c.values[number]) is not None
            )
            if all(len(values) == 1 for values in shared):
                rare.append((number, {v for v, held in shared.items() if held < count}))
        return rare

    def _holding(self, claim: int) -> int:
        return sum(taken.ask.claim == claim for taken in self._result)

    def _take(self, one: NumberedAsk, position: int) -> bool:
        """Give the device to the ask if nothing forbids it."""
        candidate = self.candidates[position]
        if (
            candidate.usable[one.number]
            and self._is_free(one, position)
            and self._constraints_hold(one, candidate)
            and self._counters_suffice(one, position)
        ):
            taken = Taken(one, candidate, position)
            self._result.append(taken)
            self._account(taken, 1)
            return True
        return False

    def _give_back(self) -> None:
        self._account(self._result.pop(), -1)

    def _is_free(self, one: NumberedAsk, position: int) -> bool:
        device = self.candidates[position].device
        if one.ask.admin_access:
            return all(t.ask.claim != one.claim or t.position != position for t in self._result)
        if not device.shareable:
            return position not in self._busy
        takes = self.candidates[position].takes[one.number] or {}
        before = self.consumed.get(device.ident, {})
        now = self._shares.get(position, {})
        return "capacity" in self.ignore or all(
            before.get(name, 0) + now.get(name, 0) + amount <= device.capacity[name].value
            for name, amount in takes.items()
        )

    def _constraints_hold(self, one: NumberedAsk, candidate: Candidate) -> bool:
        for number in one.constraints:
            if number in self.ignore:
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

    def _counters_suffice(self, one: NumberedAsk, position: int) -> bool:
        device = self.candidates[position].device
        if not device.counters or "counters" in self.ignore or one.ask.admin_access:
            return True
        if device.shareable and (self._shares.get(position) or device.ident in self.consumed):
            return True  # counted when its first share was taken
        return all(
            self._counted.get(key, 0) + amount <= self.counters.get(key, 0)
            for key, amount in drawn(device)
        )

    def _account(self, taken: Taken, sign: int) -> None:
        """Count what a device of the result takes: `sign` is 1 for a new one, -1 for a removed."""
        one, device, position = taken.ask, taken.candidate.device, taken.position
        if one.ask.admin_access:
            return
        first = True
        if device.shareable:
            share = self._shares.setdefault(position, {})
            others = sum(other.position == position for other in self._result)
            first = others == (1 if sign > 0 else 0) and device.ident not in self.consumed
            for name, amount in (taken.candidate.takes[one.number] or {}).items():
                share[name] = share.get(name, 0) + sign * amount
            if not any(share.values()):
                del self._shares[position]
        elif sign > 0:
            self._busy.add(position)
        else:
            self._busy.discard(position)
        for key, amount in drawn(device) if first else ():
            self._counted[key] = self._counted.get(key, 0) + sign * amount


def drawn(device: Device) -> Iterator[tuple[CounterKey, Quantity]]:
    """What the device takes of its pool's counters when it is allocated."""
    for (counter_set, counter), amount in device.counters.items():
        yield (device.driver, device.pool, counter_set, counter), amount
