"""Ends jobs that have waited longer than their `queue_s`, where no worker comes to do it.

A worker ends an overdue job itself when it gets one. While a service is paused or all its slots are
taken none comes, so this looks at the heads of the lanes. A job behind the head whose own time is
shorter than that of the head is ended when it is the head. It also looks at jobs that were given to
a worker and came back before any record of them was written. A job that was leased is not ended
here, even if its worker died: the worker that gets it next does so.

The work message stays where it is: the worker that gets it finds the job settled, and drops it.
Any number of gateways may do this at once, since the record is written by compare-and-set.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relume.base.clock import Clock
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.state import JobConflict, QueueExpired, Record, step
from relume.eventing.jobs.store import JobStore, Lane, NoSuchJob, Outrun, Waiting

log = logging.getLogger(__name__)

LOOK_S = 1.0
# A head is leased one day, and the next one may have less time: look at each lane so often.
_LANE_LOOK_S = 10.0
# So many jobs of one lane are ended before the other lanes have their turn.
_AT_ONCE = 100


@dataclass(slots=True)
class _Head:
    """What is known of a lane: the last place that was ended, and when to look again.

    Up to the place `begun`, each job that was given to a worker has a record. `returned_at` is when
    to look at the others that were given to one.
    """

    after: int = 0
    look_at: float = 0.0
    begun: int = 0
    returned_at: float = 0.0


class QueueClock:
    """The queue clock of some services; `run` belongs into a task of its own.

    `counts` says how many jobs wait in each lane of all these services (`FairCursor.to_watch`);
    `on_expired` is told each record that this process has settled.
    """

    def __init__(
        self,
        store: JobStore,
        counts: Callable[[], Mapping[Lane, int]],
        clock: Clock,
        *,
        look_s: float = LOOK_S,
        on_expired: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._counts = counts
        self._clock = clock
        self._look_s = look_s
        self._on_expired = on_expired
        self._heads: dict[Lane, _Head] = {}

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreUnavailable as error:
                log.warning("jobs that waited too long cannot be ended now: %s", error)
            await self._clock.sleep(self._look_s)

    async def look(self) -> int:
        """End what is overdue at the heads of all lanes; how many jobs. Raises StoreUnavailable."""
        heads: dict[Lane, _Head] = {}
        ended = 0
        for lane in [lane for lane, waiting in self._counts().items() if waiting]:
            head = heads[lane] = self._heads.get(lane, _Head())
            if head.look_at <= self._clock.monotonic():
                ended += await self._look_at(lane, head)
            if head.returned_at <= self._clock.monotonic():
                ended += await self._look_at_returned(lane, head)
        self._heads = heads
        return ended

    async def _look_at(self, lane: Lane, head: _Head) -> int:
        ended = 0
        for _ in range(_AT_ONCE):
            waiting = await self._store.oldest(lane, head.after)
            if waiting is None:
                break  # all that wait were ended; what comes next may have little time
            if (left_s := self._left_s(waiting)) > 0:
                head.look_at = self._clock.monotonic() + min(left_s, _LANE_LOOK_S)
                break
            ended += await self._end(waiting)
            head.after = waiting.place
        return ended

    async def _look_at_returned(self, lane: Lane, head: _Head) -> int:
        """End what is overdue among the first jobs that were given to a worker and came back."""
        found, read = await self._store.returned(lane, head.begun)
        head.begun = found[0].place - 1 if found else read
        left = [(each, self._left_s(each)) for each in found]
        ended = [await self._end(each) for each, left_s in left if left_s <= 0]
        # At once where jobs were ended: more may lie behind those that were read.
        again_s = 0.0 if ended else min([_LANE_LOOK_S, *(left_s for _, left_s in left)])
        head.returned_at = self._clock.monotonic() + again_s
        return sum(ended)

    def _left_s(self, waiting: Waiting) -> float:
        since_s = (self._clock.now() - waiting.since).total_seconds()
        return waiting.job.limits.queue_s - since_s

    async def _end(self, waiting: Waiting) -> bool:
        try:
            seen = await self._store.look(waiting.job.id)
            if seen.place != waiting.place:
                return False  # it was withdrawn, or waits for its next round at another place
            record = step(seen.record, seen.job, QueueExpired(self._clock.now()))
            await self._store.write(record, seen.revision)
        except (NoSuchJob, JobConflict, Outrun):
            return False  # somebody else was first: it is leased, settled or gone
        self._on_expired(record)
        return True
