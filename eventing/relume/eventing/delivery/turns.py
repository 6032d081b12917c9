"""When a delivery may begin: when there is a slot, and in an ordered Trigger when it has its turn.

The order of an ordered Trigger is one event after the other in each lane, with lanes side by side.
Events are numbered by their place in the log and may come here out of order, because what was lost
on its way or held by an earlier process comes again later. None may begin before all that lie
before it in the log have come.
"""

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from zlib import crc32

from relume.cloudevents.event import CloudEvent
from relume.eventing.envelope import Envelope

Lane = Hashable


class Slots:
    """A semaphore whose size is asked for anew each time; first come, first served.

    `now` is a clock in seconds that never goes back.
    """

    def __init__(self, size: Callable[[], int], now: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._now = now
        self._paused_until = -math.inf
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.taken = 0

    @property
    def size(self) -> int:
        """The bound of this moment."""
        return 0 if self._now() < self._paused_until else self._size()

    @property
    def free(self) -> int:
        """Slots nobody has and nobody waits for; negative after the bound was lowered."""
        return self.size - self.taken - len(self._waiters)

    def pause(self, seconds: float) -> None:
        """Give no more slots for so many seconds; deliveries that are under way go on."""
        self._paused_until = max(self._paused_until, self._now() + seconds)

    async def acquire(self) -> None:
        if self._waiters:
            self.grant()  # a pause may be over
        if self.free > 0:
            self.taken += 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted and cancelled in the same turn
                self.release()
            elif granted in self._waiters:
                self._waiters.remove(granted)
            raise

    def release(self) -> None:
        self.taken -= 1
        self.grant()

    def grant(self) -> None:
        """Give slots to those who wait; call it when the bound may have grown."""
        while self._waiters and self.taken < self.size:
            granted = self._waiters.popleft()
            if not granted.done():
                self.taken += 1
                granted.set_result(None)


@dataclass(eq=False, slots=True)
class Turn:
    """One event's place in its lane."""

    lane: Lane
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """Hands out turns.

    An earlier process left `missing` events unsettled, all of them numbered up to `up_to`: they
    are delivered before all others, even if they arrive late.
    """

    def __init__(self, missing: int, up_to: int) -> None:
        self._missing = missing
        self._up_to = up_to
        self._next = up_to + 1
        self._early: dict[int, Turn | None] = {}  # what waits for those before it
        self._order: list[int] = []  # a heap of its keys
        self._lanes: dict[Lane, deque[Turn]] = {}
        self._missed = 0  # beats for which an event has waited for one before it

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
        """The event numbered `sequence` has arrived and needs no turn."""
        self._come(sequence, None)

    def end(self, turn: Turn) -> None:
        """The event is done, given up, or was never begun: the next one of its lane may begin."""
        line = self._lanes.get(turn.lane)
        if line is None or turn not in line:
            return self._leave(turn)
        line.remove(turn)
        if line:
            line[0].granted.set()
        else:
            del self._lanes[turn.lane]

    def beat(self, every_s: float, lease_s: float) -> bool:
        """Call every `every_s`; True when this stops the wait for an event that is missing.

        An event that was not redelivered within two leases will not be redelivered.
        """
        self._missed = self._missed + 1 if self._early else 0
        if self._missed * every_s <= 2 * lease_s:
            return False
        self.wait_no_longer()
        return True

    def wait_no_longer(self) -> None:
        """The missing events were removed from the log: go on without them."""
        self._missing = 0
        while self._order:
            self._next = max(self._next, self._order[0])
            self._advance()

    def _come(self, sequence: int, turn: Turn | None) -> None:
        if self._up_to < sequence < self._next:
            return self._admit(turn)  # it was here before
        if sequence in self._early:
            return  # it needed no turn, and arrives a second time
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
    what it must follow. If `partitions` is set, each partition is a lane.
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


def with_place(envelope: Envelope, sequence: int, partitions: int) -> Envelope:
    """The event as a Kafka Broker's subscriber and dead letter sink see it."""
    partition = partition_of(envelope.event, sequence, partitions)
    place = {"knativekafkapartition": partition, "knativekafkaoffset": sequence}
    return replace(envelope, event=envelope.event.with_attributes(**place))
