"""The order of an ordered Trigger: one event after the other in each lane, lanes side by side.

Pure: no clock and no I/O. Events are numbered by their place in the log and may come here out of
order, because what was lost on its way or held by an earlier process comes again later. None may
begin before all that lie before it in the log have come.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from zlib import crc32

from relume.cloudevents.event import CloudEvent

Lane = Hashable


@dataclass(eq=False, slots=True)
class Turn:
    """One event's place in its lane."""

    lane: Lane
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """Hands out turns.

    An earlier process left `missing` events unsettled, all of them numbered up to `up_to`: they
    come first, whenever they come.
    """

    def __init__(self, missing: int, up_to: int) -> None:
        self._missing = missing
        self._up_to = up_to
        self._next = up_to + 1
        self._early: dict[int, Turn | None] = {}  # what waits for those before it
        self._order: list[int] = []  # a heap of its keys
        self._lanes: dict[Lane, deque[Turn]] = {}

    @property
    def waiting(self) -> int:
        """How many events wait for one that lies before them in the log."""
        return len(self._early)

    def join(self, sequence: int, lane: Lane) -> Turn:
        """A place for the event numbered `sequence`; wait for `granted`, and `end` it."""
        turn = Turn(lane)
        self._come(sequence, turn)
        return turn

    def skip(self, sequence: int) -> None:
        """The event numbered `sequence` has come and wants no turn."""
        self._come(sequence, None)

    def end(self, turn: Turn) -> None:
        """Done, given up or never begun: the next one of its lane may begin."""
        line = self._lanes.get(turn.lane)
        if line is None or turn not in line:
            return self._leave(turn)
        line.remove(turn)
        if line:
            line[0].granted.set()
        else:
            del self._lanes[turn.lane]

    def wait_no_longer(self) -> None:
        """What is missing was removed from the log: go on without it."""
        self._missing = 0
        while self._order:
            self._next = max(self._next, self._order[0])
            self._advance()

    def _come(self, sequence: int, turn: Turn | None) -> None:
        if self._up_to < sequence < self._next:
            return self._admit(turn)  # it was here before
        if sequence in self._early:
            return  # it wanted no turn and comes again
        if sequence <= self._up_to:
            self._missing = max(0, self._missing - 1)
        self._early[sequence] = turn
        heapq.heappush(self._order, sequence)
        self._advance()

    def _advance(self) -> None:
        while self._order and not self._missing and self._order[0] <= self._next:
            sequence = heapq.heappop(self._order)
            self._next = max(self._next, sequence + 1)
            self._admit(self._early.pop(sequence))

    def _leave(self, turn: Turn) -> None:
        for sequence, each in self._early.items():
            if each is turn:
                self._early[sequence] = None

    def _admit(self, turn: Turn | None) -> None:
        if turn is None:
            return
        line = self._lanes.setdefault(turn.lane, deque())
        line.append(turn)
        if len(line) == 1:
            turn.granted.set()


def lane_of(event: CloudEvent, sequence: int, partitions: int | None) -> Lane:
    """Which events wait for each other: those with the same `partitionkey`.

    That is the extension "partitioning". An event without a key has a lane of its own: nothing says
    what it must follow. With `partitions`, lanes are these.
    """
    if partitions is not None:
        return partition_of(event, sequence, partitions)
    key = event.attributes.get("partitionkey")
    return sequence if key is None else str(key)


def partition_of(event: CloudEvent, sequence: int, partitions: int) -> int:
    """The partition of an event in a topic: by its `partitionkey`, else each in turn.

    As Kafka's producer does it, but which keys share a partition differs from a real topic.
    """
    key = event.attributes.get("partitionkey")
    number = sequence if key is None else crc32(str(key).encode())
    return number % partitions
