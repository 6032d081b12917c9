"""Cursors of the job store: the place of all workers in a lane, and of all publishers.

Other gateways work at the same place. So what waits is what nats-server said last.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import cast

from nats.js.api import ConsumerInfo

from relume.base.clock import Clock
from relume.eventing.jetstream.cursor import (
    GIVE_BACK,
    JetStreamCursor,
    JetStreamLeasedEvent,
)
from relume.eventing.jetstream.job_api import JobApi
from relume.eventing.jobs.packing import is_settled

# The events that were put off here and are remembered.
PUT_OFF_REMEMBERED = 100_000
# Events that come again so soon are not given back.
_NEAR_S = 0.5


class SharedLease(JetStreamLeasedEvent):
    """A leased event that another process gets when the lease has run out.

    nats-server takes a message from whoever holds it when any earlier holder gives it back. So a
    process that was paused or cut off past its lease does not give it back: it is not its own any
    more.
    """

    __slots__ = ("_clock", "_lease_s", "_lost_at")

    def __init__(
        self, cursor: "SharedCursor", subject: str, payload: bytes, clock: Clock, lease_s: float
    ) -> None:
        super().__init__(cursor, subject, payload)
        self._clock = clock
        self._lease_s = lease_s
        self._lost_at = clock.monotonic() + lease_s

    async def give_back(self) -> None:
        if not cast("SharedCursor", self._cursor).alone:
            # It is not noted, so `confirm` does not say it again: another process may have it then.
            self.say(GIVE_BACK)
        elif self._clock.monotonic() < self._lost_at:
            await super().give_back()

    async def extend(self) -> None:
        now = self._clock.monotonic()
        if now < self._lost_at:
            self._lost_at = now + self._lease_s
        await super().extend()

    def say(self, what: bytes) -> None:
        """Tell nats-server, if it can be told before the lease is over."""
        cursor = cast("SharedCursor", self._cursor)
        if self._clock.monotonic() >= self._lost_at:
            return
        if cursor.is_connected:
            cursor.tell(self._subject, what)
        else:
            cursor.unsaid.append((self, what))


class SharedCursor(JetStreamCursor):
    """A cursor over a consumer that other processes use as well; `forget` is called at its end.

    `alone` says that no other process uses it: then what was given back is said again at the end,
    so that it survives the end of nats-server too.
    """

    alone = False

    def __init__(self, api: JobApi, info: ConsumerInfo, forget: "Forget", lease_s: float) -> None:
        super().__init__(api.client, api.requests, info, last_sequence=0)
        self._clock = api.clock
        self._lease_s = lease_s
        self._pending = info.num_pending or 0
        self._forget = forget
        self._there = True
        # What nats-py would keep for the next connection, and send however late that is.
        self.unsaid: list[tuple[SharedLease, bytes]] = []

    @property
    def waiting(self) -> int:
        """What was given to nobody, when nats-server last said so."""
        return self._pending

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    def connection_changed(self) -> None:
        super().connection_changed()
        if self.is_connected:
            unsaid, self.unsaid = self.unsaid, []
            for leased, what in unsaid:
                leased.say(what)

    def there(self, there: bool) -> None:
        """The consumer was removed or made again; nothing is asked of one that was removed."""
        self._there = there
        self.connection_changed()

    async def stop(self) -> None:
        await super().stop()
        self._forget(self)

    async def _ask(self, room: int) -> None:
        if self._there:
            await super()._ask(room)

    def _on_event(self, leased: JetStreamLeasedEvent) -> None:
        self._pending = leased.pending
        super()._on_event(self._lease(leased))

    def _lease(self, leased: JetStreamLeasedEvent) -> SharedLease:
        return SharedLease(self, leased._subject, leased.payload, self._clock, self._lease_s)


Forget = Callable[[SharedCursor], None]


class SettledCursor(SharedCursor):
    """The place of all publishers in what was settled; records of other jobs are passed over."""

    def __init__(self, api: JobApi, info: ConsumerInfo, forget: Forget, lease_s: float) -> None:
        super().__init__(api, info, forget, lease_s)
        self._settled: deque[JetStreamLeasedEvent] = deque()

    async def fetch(self, limit: int) -> Sequence[JetStreamLeasedEvent]:
        while not self._settled:
            for leased in await super().fetch(limit):
                if is_settled(leased.payload):
                    self._settled.append(leased)
                else:
                    await leased.settle()
        return [self._settled.popleft() for _ in range(min(limit, len(self._settled)))]

    async def stop(self) -> None:
        for leased in self._settled:
            await leased.give_back()
        self._settled.clear()
        await super().stop()


class ParkedLease(SharedLease):
    """A parked event on lease."""

    async def put_off(self, seconds: float) -> None:
        """See `ParkedEvent.put_off`."""
        cursor = cast("ParkedCursor", self._cursor)
        cursor.remember(self.sequence, self._subject, self._clock.monotonic() + seconds)
        self.say(b'-NAK {"delay": %d}' % round(seconds * 1e9))


class ParkedCursor(SharedCursor):
    """The place of all publishers in the events that are parked.

    It knows which ones it has put off, so that the next process need not wait for them.
    """

    def __init__(self, api: JobApi, info: ConsumerInfo, forget: Forget, lease_s: float) -> None:
        super().__init__(api, info, forget, lease_s)
        self._put_off: dict[int, tuple[str, float]] = {}

    @property
    def waiting(self) -> int:
        return self._pending + len(self._put_off)

    def remember(self, sequence: int, subject: str, until: float) -> None:
        """This event comes again `until` then, to this process or to another one."""
        self._put_off.pop(sequence, None)
        self._put_off[sequence] = (subject, until)
        if len(self._put_off) > PUT_OFF_REMEMBERED:
            del self._put_off[next(iter(self._put_off))]

    async def fetch(self, limit: int) -> Sequence[ParkedLease]:
        return cast("Sequence[ParkedLease]", await super().fetch(limit))

    async def stop(self) -> None:
        await super().stop()
        await self.recall(list(self._put_off))

    async def recall(self, sequences: Collection[int]) -> None:
        """See `ParkedCursor.recall` of the store."""
        now = self._clock.monotonic()
        for sequence in sequences:
            subject, until = self._put_off.pop(sequence, ("", 0.0))
            # What comes soon may be with another process before this is there.
            if until > now + _NEAR_S:
                self.tell(subject, GIVE_BACK)

    def _lease(self, leased: JetStreamLeasedEvent) -> SharedLease:
        self._put_off.pop(leased.sequence, None)
        return ParkedLease(self, leased._subject, leased.payload, self._clock, self._lease_s)
