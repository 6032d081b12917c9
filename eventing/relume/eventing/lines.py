"""The lines of an eventing plane at work: a dispatcher for each, which follows the plan.

A plan is resolved first, into a route for each line, and then taken over in one step. A line that
stays keeps its dispatcher, its place in the log and its counts. An attempt that is under way there
ends as it began; its reply and every later attempt go by the new route, filter and all, because the
subscriber and the log of the old one may be gone. A line that goes ends its deliveries. One that
brings replies to a service or a URI ends them all first: what they answer is settled already.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from relume.base.clock import Clock
from relume.config import Destination, Plan, Trigger
from relume.eventing.delivery.courier import Courier, Subscribers
from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.delivery.profiles import profile_for
from relume.eventing.delivery.route import Journal, Route, Tally, policy_for
from relume.eventing.delivery.turns import Slots
from relume.eventing.event_log import BrokerKey, EventLog
from relume.eventing.observer import Observer
from relume.eventing.settings import EventingSettings
from relume.eventing.wiring import TriggerLine, Wiring

Resolve = Callable[[Destination, str], str]
# How many events a Trigger's subscriber can take at once; None: not known.
Concurrency = Callable[[Trigger], int | None]
# The log of a line, and the name of its Trigger.
LineKey = tuple[BrokerKey, str]
# Called with a log and how many replies more it has taken.
Counted = Callable[[BrokerKey, int], None]
# Between two looks whether a line that goes has brought all replies.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Resolved:
    """A plan with all that it comes to; `routes` has one for each line of `wiring`, in its order.

    `resolve(destination, namespace)` is the URL of a subscriber, sink or Broker, and `concurrency`
    is asked before every delivery.
    """

    plan: Plan
    wiring: Wiring
    routes: tuple[Route, ...]
    resolve: Resolve
    concurrency: Concurrency

    def names_of(self, log: BrokerKey) -> set[str]:
        """The Triggers that read a log."""
        return {line.trigger.name for line in self.wiring.lines if line.log == log}


def resolved(plan: Plan, wiring: Wiring, resolve: Resolve, concurrency: Concurrency) -> Resolved:
    """Find the route of every line. Raises InvalidInput for a kind that has no address here."""
    routes = tuple(_route(line, wiring, resolve) for line in wiring.lines)
    return Resolved(plan, wiring, routes, resolve, concurrency)


def _route(line: TriggerLine, wiring: Wiring, resolve: Resolve) -> Route:
    trigger, broker = line.trigger, wiring.logs[line.log].broker
    policy = policy_for(trigger, broker, profile_for(broker))
    sink = policy.dead_letter_sink
    return Route(
        broker=line.log,
        trigger=trigger.name,
        namespace=trigger.namespace,
        wanted=line.wanted,
        policy=policy,
        url=resolve(trigger.subscriber, trigger.namespace),
        replies=line.replies,
        in_flow=line.in_flow,
        dead_letter_url=resolve(sink, trigger.namespace) if sink else None,
        sink_unread=_is_unread(sink, trigger.namespace, wiring),
        ordered=trigger.ordered,
    )


def _is_unread(sink: Destination | None, namespace: str, wiring: Wiring) -> bool:
    """Whether the sink is one of our Brokers, and no Trigger takes what comes into it."""
    if sink is None or sink.ref is None or sink.ref.kind != "Broker":
        return False
    key = BrokerKey(sink.ref.namespace or namespace, sink.ref.name)
    return key in wiring.logs and all(key != line.log for line in wiring.lines)


@dataclass(slots=True, eq=False)
class _Line:
    """What of a line changes with the plan, and the dispatcher that is at work on it."""

    trigger: Trigger
    route: Route
    concurrency: Concurrency
    courier: Courier
    dispatcher: Dispatcher
    brings_replies: bool


@dataclass(slots=True, eq=False)
class _Leaving:
    """A line that ends: its task, and whether its log is wanted again, so that it hurries."""

    task: asyncio.Task[None]
    look: asyncio.Event
    is_recalled: bool = False


class Lines:
    """The dispatchers of a plan, and those of lines that are gone and end their deliveries."""

    def __init__(
        self,
        log: EventLog,
        subscribers: Subscribers,
        observer: Observer,
        clock: Clock,
        settings: EventingSettings,
        counted: Counted,
    ) -> None:
        """counted: gets the replies of a line that no status shows any more."""
        self._log = log
        self._subscribers = subscribers
        self._observer = observer
        self._clock = clock
        self._settings = settings
        self._counted = counted
        self._lines: dict[LineKey, _Line] = {}
        self._leaving: dict[Dispatcher, _Leaving] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def dispatchers(self) -> Sequence[Dispatcher]:
        """One for each line of the plan, in its order."""
        return [line.dispatcher for line in self._lines.values()]

    def names_of(self, log: BrokerKey) -> set[str]:
        """The Triggers that read a log now."""
        return {name for key, name in self._lines if key == log}

    def replies_into(self, log: BrokerKey) -> int:
        """How many replies that were new to it a log has taken of these lines."""
        every = (*self.dispatchers, *self._leaving)
        return sum(each.carrier.tally.accepted for each in every if each.route.replies == log)

    def run(self, group: asyncio.TaskGroup) -> None:
        """Begin to deliver; every line that comes later begins at once."""
        self._group = group
        for dispatcher in self.dispatchers:
            group.create_task(dispatcher.run())

    def take(self, now: Resolved) -> None:
        """Deliver by this plan from now on. The log has a cursor for each of its lines."""
        before, self._lines = self._lines, {}
        for line, route in zip(now.wiring.lines, now.routes, strict=True):
            key = line.log, line.trigger.name
            if (known := before.pop(key, None)) is None:
                self._lines[key] = self._begun(line, route, now.concurrency)
            else:
                self._lines[key] = known
                self._change(known, line.trigger, route, now.concurrency)
        # Those last that take the replies of others.
        for gone in sorted(before.values(), key=lambda line: line.brings_replies):
            self._leave(gone)

    async def ended(self, logs: Collection[BrokerKey]) -> None:
        """Wait until the lines of these logs that are gone have ended their deliveries."""
        found = [left for each, left in self._leaving.items() if each.route.broker in logs]
        for left in found:
            left.is_recalled = True
            left.look.set()
        if found:
            await asyncio.wait([left.task for left in found])

    async def stop(self, grace_s: float) -> None:
        """Let deliveries end within `grace_s`, and give the others back."""
        async with asyncio.TaskGroup() as group:
            for dispatcher in self._all:
                group.create_task(dispatcher.stop(grace_s))

    async def confirm(self) -> None:
        """After `stop`: make sure that the log knows."""
        await asyncio.gather(*(dispatcher.confirm() for dispatcher in self._all))

    @property
    def _all(self) -> Collection[Dispatcher]:
        return [*self.dispatchers, *self._leaving]

    def _begun(self, of: TriggerLine, route: Route, concurrency: Concurrency) -> _Line:
        slots = Slots(lambda: self._at_once(line), self._clock.monotonic)
        journal = self._journal(route, Tally())
        courier = Courier(route, self._log, self._subscribers, slots, journal, self._clock)
        cursor = self._log.cursor(route.broker, route.trigger)
        dispatcher = Dispatcher(route, cursor, courier, slots, self._clock, self._settings)
        line = _Line(of.trigger, route, concurrency, courier, dispatcher, of.brings_replies)
        if self._group is not None:
            self._group.create_task(dispatcher.run())
        return line

    def _change(
        self, line: _Line, trigger: Trigger, route: Route, concurrency: Concurrency
    ) -> None:
        tally = line.courier.tally
        if (replies := line.route.replies) is not None and replies != route.replies:
            self._counted(replies, tally.accepted)
            tally.accepted = 0
        line.trigger, line.route, line.concurrency = trigger, route, concurrency
        journal, begun = self._journal(route, tally), line.dispatcher.begun
        line.courier.follow(route, journal, begun)
        line.dispatcher.follow(route)

    def _leave(self, line: _Line) -> None:
        assert self._group is not None, "before `run` there is no line that could go"
        dispatcher, look = line.dispatcher, asyncio.Event()
        task = self._group.create_task(self._left(dispatcher, look, line.brings_replies))
        self._leaving[dispatcher] = _Leaving(task, look)

    async def _left(self, dispatcher: Dispatcher, look: asyncio.Event, drains: bool) -> None:
        if drains:
            await self._drained(dispatcher, look)
        await dispatcher.stop(self._settings.leave_s)
        await dispatcher.confirm()
        del self._leaving[dispatcher]
        if (replies := dispatcher.route.replies) is not None:
            self._counted(replies, dispatcher.carrier.tally.accepted)

    async def _drained(self, dispatcher: Dispatcher, look: asyncio.Event) -> None:
        """Wait until all is delivered that the lines which are gone too reply into its log."""
        feeding = [
            left.task
            for each, left in self._leaving.items()
            if each.route.replies == dispatcher.route.broker
        ]
        if feeding:
            await asyncio.wait(feeding)
        empty = 0
        # Twice, because a reply that was just stored is counted a moment later.
        while empty < 2 and not self._leaving[dispatcher].is_recalled:
            timer = self._clock.call_later(_LOOK_S, look.set)
            await look.wait()
            timer.cancel()
            look.clear()
            empty = 0 if dispatcher.waiting or dispatcher.in_flight else empty + 1

    def _journal(self, route: Route, tally: Tally) -> Journal:
        return Journal(route, self._observer, self._clock, tally)

    def _at_once(self, line: _Line) -> int:
        """How many deliveries may run now."""
        rules, asked = line.route.policy.profile, line.trigger.parallelism
        if line.route.ordered and rules.partitions is not None:
            return rules.partitions
        if rules.asks_subscriber:
            room = line.concurrency(line.trigger) or self._settings.in_flight
            return room if asked is None else min(asked, room)
        if rules.parallel and asked is not None:
            return asked
        return rules.at_once or self._settings.held
