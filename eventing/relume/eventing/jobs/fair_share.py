"""Whose job is next: a weighted round robin over the lanes of one service. Pure, deterministic.

The priorities share by their weights, as long as each has something waiting; the tenants of one
priority take turns. Nobody saves up: a priority or lane that was empty comes back without credit
for the time that it was away.
"""

from collections import OrderedDict
from collections.abc import Mapping

from relume.eventing.jobs.job import PRIORITIES, Priority
from relume.eventing.jobs.store import Lane

WEIGHTS: Mapping[Priority, int] = {"high": 16, "normal": 4, "low": 1}


class FairShare:
    """Hands out turns to lanes; each turn is one job."""

    def __init__(self, weights: Mapping[Priority, int] = WEIGHTS) -> None:
        self._weights = weights
        # The lanes in which something waits, and how much; the first one has the next turn.
        self._rings: dict[Priority, OrderedDict[Lane, int]] = {
            priority: OrderedDict() for priority in PRIORITIES
        }
        # How far each priority with something waiting is behind its share, times all weights.
        self._behind: dict[Priority, int] = {}

    @property
    def waiting(self) -> int:
        """How many turns may be taken."""
        return sum(sum(ring.values()) for ring in self._rings.values())

    def waits(self, lane: Lane, count: int) -> None:
        """In this lane `count` jobs wait now. One that was empty has its turn after the others."""
        ring = self._rings[lane.priority]
        if count > 0:
            ring[lane] = count
            self._behind.setdefault(lane.priority, 0)
        elif ring.pop(lane, None) is not None and not ring:
            del self._behind[lane.priority]

    def take(self) -> Lane | None:
        """The lane whose job is next, which now has one less waiting; None when nothing waits."""
        if not self._behind:
            return None
        for priority in self._behind:
            self._behind[priority] += self._weights[priority]
        # The first of equals in the order of PRIORITIES.
        chosen = max(sorted(self._behind, key=PRIORITIES.index), key=self._behind.__getitem__)
        self._behind[chosen] -= sum(self._weights[priority] for priority in self._behind)
        ring = self._rings[chosen]
        lane, count = next(iter(ring.items()))
        ring.move_to_end(lane)
        self.waits(lane, count - 1)
        return lane


def served_before(
    lane: Lane, ahead: int, waiting: Mapping[Lane, int], weights: Mapping[Priority, int] = WEIGHTS
) -> int:
    """How many jobs of the service are served before the one that has `ahead` before it in `lane`.

    `waiting` says how many wait in each lane, if nothing else comes. Nobody knows where in its
    round the round robin is, so of other priorities a whole round is counted.
    """
    own = weights[lane.priority]
    served = dict.fromkeys(PRIORITIES, 0)
    totals = dict.fromkeys(PRIORITIES, 0)
    for each, count in waiting.items():
        totals[each.priority] += count
        if each.priority == lane.priority:
            served[each.priority] += ahead if each == lane else min(count, ahead)
    if lane not in waiting:
        served[lane.priority] += ahead
    mine = served[lane.priority]
    others = (
        min(totals[each], (mine + 1) * weights[each] // own)
        for each in PRIORITIES
        if each != lane.priority
    )
    return mine + sum(others)
