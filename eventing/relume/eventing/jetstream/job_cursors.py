"""Cursors of the job store: the place of all workers in a lane, and of all publishers.

Other gateways work at the same place. So what waits is what nats-server said last.
"""

from collections import deque
from collections.abc import Callable, Sequence

from nats.aio.client import Client
from nats.js.api import ConsumerInfo

from relume.base.clock import Clock
from relume.eventing.jetstream.cursor import JetStreamCursor, JetStreamLeasedEvent
from relume.eventing.jetstream.store import Requests
from relume.eventing.jobs.packing import is_settled


class SharedLease(JetStreamLeasedEvent):
    """A leased event that another process gets when the lease has run out.

    nats-server takes a message from whoever holds it when any earlier holder gives it back. So a
    process that was paused past its lease does not give it back: it is not its own any more.
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
        if self._clock.monotonic() < self._lost_at:
            await super().give_back()

    async def extend(self) -> None:
        now = self._clock.monotonic()
        if now < self._lost_at:
            self._lost_at = now + self._lease_s
        await super().extend()


class SharedCursor(JetStreamCursor):
    """A cursor over a consumer that other processes use as well; `forget` is called at its end."""

    def __init__(
        self,
        client: Client,
        requests: Requests,
        info: ConsumerInfo,
        forget: "Callable[[SharedCursor], None]",
        clock: Clock,
        lease_s: float,
    ) -> None:
        super().__init__(client, requests, info, last_sequence=0)
        self._clock = clock
        self._lease_s = lease_s
        self._pending = info.num_pending or 0
        self._forget = forget
        self._there = True

    @property
    def waiting(self) -> int:
        """What was given to nobody, when nats-server last said so."""
        return self._pending

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
        told = (leased._subject, leased.payload)
        super()._on_event(SharedLease(self, *told, self._clock, self._lease_s))


class SettledCursor(SharedCursor):
    """The place of all publishers in what was settled; records of other jobs are passed over."""

    def __init__(
        self,
        client: Client,
        requests: Requests,
        info: ConsumerInfo,
        forget: Callable[[SharedCursor], None],
        clock: Clock,
        lease_s: float,
    ) -> None:
        super().__init__(client, requests, info, forget, clock, lease_s)
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
