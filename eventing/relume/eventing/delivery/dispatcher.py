"""One Trigger at work, or the jobs of one service: fetch, filter, hand to the carrier, settle.

An event is settled once, and last. Until then this process holds its lease and says so; when the
process ends, the event is given back. A settlement that got lost is noticed when the event comes
again, and repeated without another delivery.

How often an event was tried is not stored: a new process begins to count anew. The log's own count
of deliveries would also count what was given back unseen.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from functools import partial

from relume.base.clock import Clock
from relume.cloudevents.event import InvalidEvent
from relume.eventing.delivery.carrier import Carrier
from relume.eventing.delivery.decision import DeadLetter
from relume.eventing.delivery.flight import Flight, Idling
from relume.eventing.delivery.route import Route
from relume.eventing.delivery.turns import Slots, Turns, lane_of
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import Cursor, LeasedEvent, LeaseLost, StoreUnavailable
from relume.eventing.settings import EventingSettings

log = logging.getLogger(__name__)

# Settled events are remembered: many times what can be under way when a connection breaks.
_REMEMBERED = 10_000


class _Stopping(Exception):
    """The dispatcher is stopping and cannot wait any longer: give the event back."""


class Dispatcher:
    """Runs one Trigger until `stop`; `run` belongs into a task of its own."""

    def __init__(
        self,
        route: Route,
        cursor: Cursor,
        carrier: Carrier,
        slots: Slots,
        clock: Clock,
        settings: EventingSettings,
    ) -> None:
        self.route, self.carrier = route, carrier
        self._cursor = cursor
        self._slots = slots
        self._clock = clock
        self._settings = settings
        self._flights: dict[int, Flight] = {}
        self._held_bytes = 0
        # An ordered set: in a dict, each removal makes the next search for the oldest key slower.
        self._settled: OrderedDict[int, None] = OrderedDict()
        self._turns = Turns(*cursor.inherited) if route.ordered else None
        self._changed = asyncio.Event()
        self._stopping = False
        self._fetching: asyncio.Task[None] | None = None
        self._breathing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Events that no delivery was tried for, in the log or fetched ahead."""
        return self._cursor.waiting + len(self._flights) - self.in_flight

    @property
    def in_flight(self) -> int:
        """Events in delivery, or waiting for their next attempt."""
        return sum(flight.tried for flight in self._flights.values())

    @property
    def _heavy(self) -> bool:
        """Whether the events that are held have many bytes; not while they wait for another one."""
        waits_for_others = self._turns is not None and self._turns.waiting
        return self._held_bytes >= self._settings.held_bytes and not waits_for_others

    @property
    def begun(self) -> Collection[int]:
        """The events that the filter has passed and that are not settled yet, by sequence."""
        return self._flights.keys()

    def follow(self, route: Route) -> None:
        """Go by another route, which the carrier follows too; more may be delivered at once now."""
        self.route = route
        self._slots.grant()
        self._changed.set()

    async def run(self) -> None:
        """Work until stopped. Cancelling gives back whatever is leased."""
        try:
            async with asyncio.TaskGroup() as group:
                self._breathing = group.create_task(self._keep_leases())
                self._fetching = group.create_task(self._fetch(group))
        finally:
            # Only those whose task was cancelled before its first step are still here.
            for flight in self._flights.values():
                await flight.leased.give_back()
            self._flights.clear()
            await self._cursor.stop()

    async def stop(self, grace_s: float) -> None:
        """Fetch nothing more, give deliveries `grace_s` to end, give the rest back."""
        self._stopping = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        await self._cursor.stop()
        for flight in self._flights.values():
            if flight.idle and flight.task is not None:
                flight.task.cancel()
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.wait(tasks)
        if self._breathing is not None:
            self._breathing.cancel()

    async def confirm(self) -> None:
        """After every dispatcher has stopped: make sure that the log knows."""
        await self._cursor.confirm()

    async def _fetch(self, group: asyncio.TaskGroup) -> None:
        while True:
            # As many again as can be under way: no slot waits for a round trip to the log, and
            # deliveries keep up with producers where both want the whole processor.
            ahead = self._slots.free + self._slots.size
            room = min(ahead, self._settings.held - len(self._flights))
            if room > 0 and not self._heavy:
                await self._take_all(await self._cursor.fetch(room), group)
                # The new flights take their slots before the room is counted again.
                await asyncio.sleep(0)
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _take_all(self, fetched: Sequence[LeasedEvent], group: asyncio.TaskGroup) -> None:
        left = deque(fetched)
        try:
            while left:
                await self._take(left.popleft(), group)
        finally:
            for leased in left:  # this was cancelled before all were taken
                await leased.give_back()

    async def _take(self, leased: LeasedEvent, group: asyncio.TaskGroup) -> None:
        if leased.sequence in self._settled:
            return await leased.settle()  # the first settlement was lost
        if flight := self._flights.get(leased.sequence):
            flight.leased = leased  # the lease ran out while we were working, or the log restarted
            return
        try:
            envelope = Envelope.unpack(leased.payload)
        except InvalidEvent as error:
            log.error("%s/%d: %s", self.route.broker, leased.sequence, error)
            return await self._skip(leased)
        if envelope.trigger is not None:
            # It was put back for one Trigger. That Trigger's filter has passed it before.
            if envelope.trigger != self.route.trigger:
                return await self._skip(leased)
        elif not self.route.wanted(envelope.event):
            self.carrier.tally.filtered += 1
            return await self._skip(leased)
        flight = Flight(leased, envelope)
        self._flights[leased.sequence] = flight
        self._held_bytes += len(leased.payload)
        if self._turns is not None:
            partitions = self.route.policy.profile.partitions
            lane = lane_of(envelope.event, leased.sequence, partitions)
            flight.turn = self._turns.join(leased.sequence, lane)
        flight.task = group.create_task(self._fly(flight))

    async def _skip(self, leased: LeasedEvent) -> None:
        if self._turns is not None:
            self._turns.skip(leased.sequence)
        await leased.settle()

    async def _fly(self, flight: Flight) -> None:
        sequence = flight.leased.sequence
        try:
            await self._carry(flight)
            self._remember(sequence)
            await flight.leased.settle()
        except (_Stopping, StoreUnavailable):
            await flight.leased.give_back()
        except LeaseLost as error:
            log.warning("%s: %s", self.route.trigger, error)  # the lease is not ours to end
        except asyncio.CancelledError:
            leased = flight.leased
            await (leased.settle() if sequence in self._settled else leased.give_back())
            raise
        finally:
            del self._flights[sequence]
            self._held_bytes -= len(flight.leased.payload)
            if self._turns is not None and flight.turn is not None:
                self._turns.end(flight.turn)
            self._changed.set()

    async def _carry(self, flight: Flight) -> None:
        try:
            if flight.turn is not None and not flight.turn.granted.is_set():
                with Idling(flight, self._begin_idle):
                    await flight.turn.granted.wait()
            idle = partial(Idling, flight, self._begin_idle)
            await self.carrier.carry(flight.envelope, flight.leased, idle)
        except (_Stopping, StoreUnavailable, LeaseLost):
            raise
        except Exception as error:
            # A fault of this code, not of the subscriber: the next try would end the same way.
            log.exception("%s: delivery of %s", self.route.trigger, flight.envelope.event.id)
            letter = DeadLetter("internal", 0, repr(error).encode())
            await self.carrier.give_up(flight.envelope, letter)

    def _begin_idle(self) -> None:
        if self._stopping:
            raise _Stopping
        self._changed.set()  # an event that waits has given its slot to another

    def _remember(self, sequence: int) -> None:
        self._settled[sequence] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    async def _keep_leases(self) -> None:
        settings = self._settings
        while True:
            await self._clock.sleep(settings.heartbeat_s)
            for flight in list(self._flights.values()):
                await flight.leased.extend()
            self._slots.grant()  # the subscriber may have grown
            if self._turns is not None and self._turns.beat(settings.heartbeat_s, settings.lease_s):
                log.warning("%s: events before the next one are gone", self.route.trigger)
            self._changed.set()
