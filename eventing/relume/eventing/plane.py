"""The eventing plane of one plan: the ingress of every log, and a dispatcher for every line."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from relume.base.clock import Clock, SystemClock
from relume.base.vocabulary import KNATIVE_EVENTING_V1, KNATIVE_EVENTING_V1ALPHA1
from relume.cloudevents.event import CloudEvent
from relume.config import Destination, PingSource, Plan, Ref, RequestReply
from relume.eventing.correlation import Correlation
from relume.eventing.dead_letters import DeadLetters, DeadLetterStore
from relume.eventing.delivery.courier import Subscribers
from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.delivery.profiles import profile_for
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, EventLog, StoreUnavailable
from relume.eventing.ingress import Ingress
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.lines import Concurrency, Lines, Resolve, Resolved, resolved
from relume.eventing.observer import Observer
from relume.eventing.pings import Ping, Pings
from relume.eventing.request_reply import RequestReplies
from relume.eventing.settings import EventingSettings
from relume.eventing.wiring import Log, wire

logger = logging.getLogger(__name__)


class ClosableLog(EventLog, Protocol):
    """An EventLog with a connection that somebody must close."""

    @property
    def dead_letters(self) -> DeadLetterStore:
        """The dead letters that no sink took."""
        ...

    async def close(self) -> None: ...


OpenLog = Callable[[EventingSettings, Clock], Awaitable[ClosableLog]]


class EventingPlane:
    """Start it, serve `app`, stop it; between these, `prepare` and `take` give it another plan.

    `resolve(destination, namespace)` is the URL of a subscriber, sink or Broker. `concurrency` is
    asked before every delivery. `secret` signs the correlations of RequestReplies; with the same
    one the next process knows the answers to requests of this one. `open_log` replaces the log on
    `nats`, for tests.
    """

    def __init__(
        self,
        plan: Plan,
        nats: NatsServer | None,
        resolve: Resolve,
        *,
        settings: EventingSettings | None = None,
        clock: Clock | None = None,
        observer: Observer | None = None,
        concurrency: Concurrency = lambda _: None,
        secret: bytes | None = None,
        open_log: OpenLog | None = None,
    ) -> None:
        self._nats = nats
        self._settings = settings or EventingSettings()
        self._clock = clock or SystemClock()
        self._observer = observer or Observer()
        self._open_log = open_log or self._open_jetstream
        self._secret = secret or os.urandom(32)
        self._now = self.resolve(plan, resolve, concurrency)
        self._logs: dict[BrokerKey, Log] = dict(self._now.wiring.logs)
        # The Triggers that have a place in each log, or may have one.
        self._placed: dict[BrokerKey, set[str]] = {}
        self._outboxes: dict[BrokerKey, str] = {}
        self._with_letters = set(self._logs)
        self._pings = Pings(self._ping)
        self._exits = contextlib.AsyncExitStack()
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False
        self._log: ClosableLog
        self._lines: Lines
        self._dead_letters: DeadLetters
        self._ingress = Ingress(self._logs, self._observer, self._clock, self._settings)
        correlations = map(self._correlation, plan.request_replies)
        self.app = RequestReplies(self._ingress, correlations, self._clock, self._settings)

    async def start(self) -> None:
        """Open every Broker and begin to deliver. Raises RelumeError; then nothing runs."""
        async with contextlib.AsyncExitStack() as stack:
            self._log = await self._open_log(self._settings, self._clock)
            stack.push_async_callback(self._log.close)
            for key in self._logs:
                await self._place(key, self._now.names_of(key))
            subscribers = Subscribers(self._settings.max_event_bytes)
            await stack.enter_async_context(subscribers)
            self._lines = self._made_lines(subscribers)
            self._lines.take(self._now)
            self._pings.take(self._now.wiring.pings)
            self._dead_letters = DeadLetters(
                self._log.dead_letters, self._with_letters, self._observer, self._clock
            )
            self._exits = stack.pop_all()
        self._runner = asyncio.create_task(self._run(), name="eventing-plane")
        self._runner.add_done_callback(self._on_end)
        self._ingress.open(self._log)

    def resolve(self, plan: Plan, resolve: Resolve, concurrency: Concurrency) -> Resolved:
        """Find what another plan comes to. Raises InvalidInput for what has no address here."""
        wiring = wire(plan, lambda each: self._correlation(each).is_answer)
        return resolved(plan, wiring, resolve, concurrency)

    async def prepare(self, coming: Resolved) -> None:
        """Make the logs ready for a plan, which `take` takes over; nothing else changes yet.

        A Broker that comes again waits until what it delivered before has ended (`leave_s`): its
        Triggers go on where they were, and would wait for events that are settled elsewhere.
        Raises StoreUnavailable.
        """
        if self._runner is not None:
            await self._lines.ended(coming.wiring.logs.keys() - self._logs.keys())
        if self._stopping or self._runner is None:
            raise StoreUnavailable("the plane takes no other plan now", reason="stopping")
        for log in coming.wiring.logs:
            before, wanted = self._lines.names_of(log), coming.names_of(log)
            if log not in self._logs or wanted - before:
                await self._place(log, before | wanted)

    def take(self, coming: Resolved) -> None:
        """Take events and deliver by this plan from now on, in one step.

        An attempt that is under way ends as it began. A Trigger that is gone ends its deliveries,
        and what waited for it is lost with it, as on a cluster; `forget` tells the log. Where the
        Broker goes too, the log keeps both, and they go on where they were when both come again.
        """
        if self._stopping:
            return
        self._now = coming
        self._with_letters -= self._logs.keys()
        self._logs.clear()
        self._logs.update(coming.wiring.logs)
        self._with_letters |= self._logs.keys()
        self._ingress.brokers = frozenset(self._logs)
        self.app.serve(map(self._correlation, coming.plan.request_replies))
        self._lines.take(coming)
        self._pings.take(coming.wiring.pings)

    async def forget(self) -> None:
        """After `take`: let the log forget the Triggers that are gone.

        Where it cannot be reached, it forgets them after the next plan, or at the next start.
        """
        for log in self._now.wiring.logs:
            names = self._now.names_of(log)
            if self._placed[log] == names:
                continue
            try:
                await self._place(log, names)
            except StoreUnavailable as error:
                logger.warning("%s remembers Triggers that are gone: %s", log, error)

    async def _place(self, log: BrokerKey, names: set[str]) -> None:
        """Give these Triggers, and no others, a place in a log. Raises StoreUnavailable."""
        self._placed[log] = self._placed.get(log, set()) | names
        await self._log.open_broker(log, sorted(names))
        self._placed[log] = names

    async def wait(self) -> None:
        """Return when the plane has stopped. Raises what it failed with, if it did."""
        if self._runner is not None:
            await asyncio.wait([self._runner])
            if not self._runner.cancelled():
                self._runner.result()

    async def stop(self, grace_s: float) -> None:
        """Take no more events, let deliveries end within `grace_s`, give the others back.

        Cancelled, it gives all of them back at once.
        """
        self._close()
        self._stopping = True
        self._pings.stop()
        if self._runner is None:
            return
        try:
            await self._lines.stop(grace_s)
        finally:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            await self._lines.confirm()
            await self._exits.aclose()

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters that no sink took; there once the plane has started."""
        return self._dead_letters

    @property
    def log(self) -> EventLog:
        """Where the events of all Brokers lie; there once the plane has started."""
        return self._log

    @property
    def brokers(self) -> Collection[BrokerKey]:
        """Every Broker and channel that takes events."""
        return self._logs.keys()

    def show_letters(self, broker: BrokerKey, of: str) -> None:
        """Show the dead letters in a log that another part of the program has opened in `log`.

        `of` is what it is called in the status. Nobody can post to it.
        """
        self._outboxes[broker] = of
        self._with_letters.add(broker)

    def count(self, broker: BrokerKey, events: Sequence[CloudEvent], news: Sequence[bool]) -> None:
        """Count and tell of events that were stored in `log` by another part of the program."""
        self._ingress.count(broker, events, news)

    async def recall(self, broker: BrokerKey, key: str) -> Envelope | None:
        """The whole event of a record that has a `key`; None when it is not kept.

        Raises StoreUnavailable.
        """
        if broker not in self._logs:
            return None
        # A reply in a flow lies in another log than what it answers.
        for each in (broker, *self._logs):
            if (found := await self._log.recall(each, key)) is not None:
                return found
        return None

    def status(self) -> dict[str, object]:
        """JSON types only: `brokers`, `triggers` and `nats`.

        For each Broker, `accepted` counts new events and replies since the start and
        `dead_letters` what lies in its own log. `of` is the flow or source whose log it is; a
        Broker of the plan has none. A log of `show_letters` is there while it has dead letters.
        `pending` of a Trigger is what no delivery was tried for, `in_flight` what is being
        delivered or waits for its next attempt.
        """
        return {
            "brokers": [
                *(self._broker_status(key) for key in self._logs),
                *self._outbox_statuses(),
            ],
            "request_replies": [self._door_status(each) for each in self._now.plan.request_replies],
            "triggers": [_trigger_status(each) for each in self._dispatchers],
            "nats": self._nats_status(),
        }

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._lines.run(group)
            group.create_task(self._sweep())
            self._pings.run(group)

    def _ping(self, source: PingSource, target: BrokerKey) -> Ping:
        patience_s, count = self._settings.store_patience_s, self._ingress.count
        return Ping(source, target, self._log, count, self._clock, patience_s)

    def _made_lines(self, subscribers: Subscribers) -> Lines:
        def counted(log: BrokerKey, accepted: int) -> None:
            self._ingress.accepted[log] += accepted

        parts = self._log, subscribers, self._observer, self._clock, self._settings
        return Lines(*parts, counted)

    @property
    def _dispatchers(self) -> Sequence[Dispatcher]:
        return self._lines.dispatchers if self._runner is not None else ()

    def _correlation(self, flow: RequestReply) -> Correlation:
        return Correlation(flow, self._secret)

    def _close(self) -> None:
        """Take no more events, and send away who waits for an answer."""
        self._ingress.close()
        self.app.close()

    async def _sweep(self) -> None:
        # Not for ever: nats-py waits with wait_for, which in Python 3.11 forgets a cancellation
        # that comes together with the answer.
        while not self._stopping:
            await self._clock.sleep(self._settings.sweep_s)
            try:
                await self._log.sweep()
            except Exception:
                logger.exception("settled events stay on the disk for now")

    def _on_end(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (error := runner.exception()):
            # Nothing is delivered any more, so nothing may be accepted.
            self._close()
            logger.critical("events are no longer delivered", exc_info=error)

    async def _open_jetstream(self, settings: EventingSettings, clock: Clock) -> ClosableLog:
        from relume.eventing.jetstream.log import JetStreamLog  # nats only where it is used

        if self._nats is None:
            raise ValueError("a plane needs a NatsServer or open_log")
        return await JetStreamLog.connect(self._nats.url, settings, clock, self._nats.disk)

    def _broker_status(self, key: BrokerKey) -> dict[str, object]:
        ref = Ref("Broker", key.namespace, key.name, KNATIVE_EVENTING_V1)
        started = self._runner is not None
        replies = self._lines.replies_into(key) if started else 0
        return {
            "namespace": key.namespace,
            "name": key.name,
            "url": self._now.resolve(Destination(ref=ref), key.namespace),
            "profile": profile_for(self._logs[key].broker).name,
            "accepted": self._ingress.accepted[key] + replies,
            "duplicates": self._ingress.duplicates[key],
            "dead_letters": self._log.buried(key) if started else 0,
            **({"of": self._logs[key].of} if self._logs[key].of else {}),
        }

    def _outbox_statuses(self) -> list[dict[str, object]]:
        return [
            {
                "namespace": key.namespace,
                "name": key.name,
                "url": "",
                "accepted": 0,
                "duplicates": 0,
                "dead_letters": dead_letters,
                "of": of,
            }
            for key, of in self._outboxes.items()
            if (dead_letters := self._log.buried(key))
        ]

    def _door_status(self, flow: RequestReply) -> dict[str, object]:
        ref = Ref("RequestReply", flow.namespace, flow.name, KNATIVE_EVENTING_V1ALPHA1)
        return {
            "namespace": flow.namespace,
            "name": flow.name,
            "broker": flow.broker,
            "url": self._now.resolve(Destination(ref=ref), flow.namespace),
            "waiting": self.app.waiting(flow),
        }

    def _nats_status(self) -> dict[str, object] | None:
        nats = self._nats
        if nats is None:
            return None
        return {
            "state": nats.state,
            "pid": nats.pid,
            "address": nats.address,
            "restarts": nats.restarts,
        }


def _trigger_status(dispatcher: Dispatcher) -> dict[str, object]:
    route, tally = dispatcher.route, dispatcher.carrier.tally
    return {
        "namespace": route.namespace,
        "name": route.trigger,
        "broker": route.broker.name,
        "subscriber": route.subscriber,
        "pending": dispatcher.waiting,
        "in_flight": dispatcher.in_flight,
        "delivered": tally.delivered,
        "replied": tally.replied,
        "retried": tally.retried,
        "filtered": tally.filtered,
        "dead_lettered": tally.dead_lettered,
        "dropped": tally.dropped,
    }
