"""All lanes of one service as one cursor, each with its fair share of the room.

Every lane has a cursor of its own. Of each, no more is asked for than its share of the room that
the dispatcher has told: so the jobs of one tenant, however many, leave room for those of others.

Lanes in which nothing is known to wait are asked for one job each, beside the room. That job comes
without a search when it is stored, and so does one whose worker has died. What comes while there
is no room for it is given back two looks later at most, so that no gateway keeps it from another.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from relume.base.clock import Clock
from relume.eventing.event_log import Cursor, LeasedEvent, StoreUnavailable
from relume.eventing.jobs.fair_share import FairShare
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.store import JobStore, Lane

log = logging.getLogger(__name__)

# How often lanes are counted, and what there was no room for is given back.
LOOK_S = 1.0
# To count a lane is a request to nats-server: many lanes are counted less often.
_LOOK_EACH_S = 0.01
# So many lanes without waiting jobs are asked for one at the same time; the others take turns.
IDLE_ASKS = 64
# The turn of such a lane: as long as a request to nats-server stays open.
_IDLE_TURN_S = 30.0


@dataclass(eq=False, slots=True)
class _Feed:
    """One lane: how many wait in it by the last count, and how many it was asked for."""

    lane: Lane
    waiting: int = 0
    asked: int = 0
    idle: bool = True
    asked_at: float = 0.0
    cursor: Cursor | None = None
    is_open: bool = False
    is_closing: bool = False
    gave_back: bool = False  # a job of it, which has not come to this process again
    task: asyncio.Task[None] | None = None


class FairCursor:
    """The place of all workers together in the queue of one service, as an `event_log.Cursor`."""

    inherited = (0, 0)  # only an ordered Trigger asks

    def __init__(
        self,
        store: JobStore,
        service: ServiceName,
        clock: Clock,
        *,
        look_s: float = LOOK_S,
        idle_asks: int = IDLE_ASKS,
    ) -> None:
        self._store = store
        self._service = service
        self._clock = clock
        self._look_s = look_s
        self._idle_asks = idle_asks
        self._share = FairShare()
        self._feeds: dict[Lane, _Feed] = {}
        self._counts: dict[Lane, int] = {}  # of the same lanes
        self._arrived: deque[tuple[float, LeasedEvent, _Feed]] = deque()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken: BaseException | None = None
        self._stopped = False
        self.paused = False
        self._pauses = 0  # how often that has changed
        self._changing = asyncio.Lock()  # held by whoever closes lanes

    @property
    def waiting(self) -> int:
        """How many jobs no worker was ever given, as of the last look."""
        return sum(self._counts.values())

    @property
    def counts(self) -> Mapping[Lane, int]:
        """The same by lanes; empty lanes are among them. It changes as they do."""
        return self._counts

    @property
    def to_watch(self) -> Mapping[Lane, int]:
        """As `counts`, without empty lanes, and with those where this process gave back a job."""
        return {
            lane: count or 1
            for lane, count in self._counts.items()
            if count or self._feeds[lane].gave_back
        }

    def expect(self, lane: Lane, count: int = 1) -> None:
        """So many jobs were just stored in a lane: its turn need not wait for the next look."""
        if self._stopped:
            return
        feed = self._feed(lane)
        self._count(feed, feed.waiting + count)
        if not self.paused:  # nothing is asked for then
            self._changed.set()

    async def pause(self, paused: bool) -> None:
        """Lease nothing more, or go on. The store is asked at every look as well."""
        async with self._changing:
            if paused == self.paused:
                return
            self._pauses += 1
            self.paused = paused
            if paused:
                await self._close_all()
                await self._give_back(len(self._arrived))
            self._changed.set()

    async def fetch(self, limit: int) -> Sequence[LeasedEvent]:
        """See `Cursor.fetch`. Raises whatever an unforeseen fault of a lane was."""
        if not self._tasks and not self._stopped:
            for work in (self._keep_looking, self._hear_of_lanes):
                self._tasks.append(asyncio.create_task(self._guarded(work)))
        while not self._arrived:
            if self._broken is not None:
                raise self._broken
            self._ask(limit)
            self._changed.clear()
            await self._changed.wait()
        # Nothing is waited for from here on: what is taken reaches the caller.
        taken = [self._arrived.popleft()[1] for _ in range(min(limit, len(self._arrived)))]
        self._ask(limit - len(taken))
        return taken

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*(_ended(task) for task in self._tasks))
        async with self._changing:
            await self._close_all()
            await self._give_back(len(self._arrived))

    async def confirm(self) -> None:
        cursors = [feed.cursor for feed in self._feeds.values() if feed.cursor is not None]
        await asyncio.gather(*(cursor.confirm() for cursor in cursors))

    # ---- sharing out the room

    def _ask(self, room: int) -> None:
        """Ask the lanes for as much as there is room for, less what they are asked for already."""
        if self._stopped or self.paused:
            return
        room -= len(self._arrived)
        room -= sum(feed.asked for feed in self._feeds.values() if not feed.idle)
        if room <= 0:
            return
        while room > 0 and (lane := self._share.take()) is not None:
            feed = self._feeds[lane]
            if not feed.is_closing:
                feed.idle = False
                self._ask_one(feed)
                room -= 1
        free = self._idle_asks - sum(feed.idle and feed.asked > 0 for feed in self._feeds.values())
        for feed in self._feeds.values():
            if free <= 0:
                break
            if not (feed.asked or feed.waiting or feed.is_closing):
                feed.idle = True
                self._ask_one(feed)
                free -= 1

    def _ask_one(self, feed: _Feed) -> None:
        if not feed.asked:
            feed.asked_at = self._clock.monotonic()
        feed.asked += 1
        if feed.task is None:
            feed.task = asyncio.create_task(self._guarded(partial(self._receive, feed)))

    async def _receive(self, feed: _Feed) -> None:
        """Hand on what the lane brings, for as long as it is asked for something."""
        try:
            while feed.asked:
                if feed.cursor is None or not feed.is_open:
                    feed.cursor = await self._store.open_lane(feed.lane)
                    feed.is_open = True
                brought = await feed.cursor.fetch(feed.asked)
                now = self._clock.monotonic()
                self._arrived.extend((now, each, feed) for each in brought)
                feed.gave_back = False
                feed.asked = max(0, feed.asked - len(brought))
                self._count(feed, feed.cursor.waiting)
                self._changed.set()
        except StoreUnavailable as error:
            log.warning("%s: a lane cannot be opened now: %s", self._service, error)
            feed.asked = 0  # the next look asks again
        finally:
            feed.task = None

    def _feed(self, lane: Lane) -> _Feed:
        feed = self._feeds.get(lane)
        if feed is None:
            feed = self._feeds[lane] = _Feed(lane)
            self._counts[lane] = 0
        return feed

    def _count(self, feed: _Feed, waiting: int) -> None:
        feed.waiting = self._counts[feed.lane] = waiting
        self._share.waits(feed.lane, max(0, waiting - feed.asked))

    # ---- what is done once a second

    async def _keep_looking(self) -> None:
        look_at = self._clock.monotonic()
        while True:
            try:
                before, paused = self._pauses, await self._store.paused()
                if before == self._pauses:  # else it was told of a change meanwhile
                    await self.pause(self._service in paused)
                if look_at <= self._clock.monotonic():
                    async with self._changing:
                        await self._look()
                    look_at = self._clock.monotonic() + len(self._feeds) * _LOOK_EACH_S
            except StoreUnavailable as error:
                log.warning("%s: the lanes cannot be counted now: %s", self._service, error)
            self._changed.set()
            await self._clock.sleep(self._look_s)
            async with self._changing:
                await self._give_back_old()
                await self._rotate()

    async def _hear_of_lanes(self) -> None:
        """A lane is made before its first job, so a new one is asked at once."""
        while True:
            try:
                async for lane in self._store.each_lane(self._service):
                    self._feed(lane)
                    self._changed.set()
            except StoreUnavailable as error:
                log.warning("%s: no new lane is heard of now: %s", self._service, error)
            await self._clock.sleep(self._look_s)

    async def _look(self) -> None:
        counts = await self._store.lanes(self._service)
        for lane, waiting in counts.items():
            feed = self._feed(lane)
            # What was asked for and is not there was brought to somebody else.
            feed.idle = feed.idle or not waiting
            self._count(feed, waiting)
        for feed in [each for lane, each in self._feeds.items() if lane not in counts]:
            if feed.waiting:  # it may be newer than the count
                self._count(feed, 0)
            else:
                await self._close(feed)
                self._share.waits(feed.lane, 0)
                del self._feeds[feed.lane], self._counts[feed.lane]

    async def _give_back_old(self) -> None:
        """Whoever has room would have taken it long ago."""
        old = self._clock.monotonic() - self._look_s
        await self._give_back(sum(at <= old for at, _, _ in self._arrived))

    async def _give_back(self, count: int) -> None:
        late = [self._arrived.popleft() for _ in range(count)]
        for _, leased, feed in late:
            feed.gave_back = True
            await leased.give_back()

    async def _rotate(self) -> None:
        """Close lanes that have had their turn without a job, when others wait for one."""
        others = sum(not feed.asked for feed in self._feeds.values())
        over = self._clock.monotonic() - _IDLE_TURN_S
        had = [
            each
            for each in self._feeds.values()
            if each.idle and each.asked and not each.waiting and each.asked_at <= over
        ]
        await asyncio.gather(*(self._close(feed) for feed in had[:others]))
        for feed in had[:others]:
            self._feeds[feed.lane] = self._feeds.pop(feed.lane)  # behind the others

    # ---- ends

    async def _close_all(self) -> None:
        await asyncio.gather(*(self._close(feed) for feed in self._feeds.values()))

    async def _close(self, feed: _Feed) -> None:
        """Receive nothing more; the next turn of the lane opens it again."""
        feed.is_closing = True
        try:
            if feed.task is not None:
                await _ended(feed.task)
            if feed.cursor is not None and feed.is_open:
                await feed.cursor.stop()
        finally:
            feed.task, feed.asked, feed.idle = None, 0, True
            feed.is_open = feed.is_closing = False

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A fault ends this cursor: whoever fetches is told, instead of waiting for ever."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - it is raised where somebody fetches
            self._broken = error
            self._changed.set()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
