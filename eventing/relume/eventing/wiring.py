"""A plan as logs and lines: what flows, sources and RequestReplies are made of.

A log keeps events, a line is a Trigger at work on one. Brokers and Triggers are logs and lines as
they are. Knative makes Channels and Subscriptions of a flow; here each Channel is a log and each
Subscription a line, so that one engine delivers everything: a step's event has its lease, its
retries, its dead letter and its place after a kill exactly as that of a Trigger.

A reply to a Broker or flow is stored in its log. For another destination it is stored in a log of
its own first, whose line delivers it. So a reply is durable before the event that it answers is
settled, wherever it goes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relume.base.vocabulary import KNATIVE_EVENTING_V1ALPHA1
from relume.config import (
    Broker,
    Delivery,
    Destination,
    ParallelFlow,
    PingSource,
    Plan,
    Ref,
    RequestReply,
    SequenceFlow,
    Trigger,
)
from relume.config.channels import (
    branch_channel,
    entry_of,
    filter_subscription,
    parallel_channel,
    ping_channel,
    reply_channel,
    reply_trigger,
    sequence_channel,
)
from relume.eventing.event_log import BrokerKey
from relume.eventing.filters import Predicate, wanted_by

# A Channel without a delivery delivers once (knative/eventing pkg/channel/fanout).
_ONCE = Delivery()
# How a PingSource sends (knative/eventing pkg/adapter/mtping/runner.go).
_PING = Delivery(retry=5, backoff_policy="exponential", backoff_delay_s=0.05)


@dataclass(frozen=True, slots=True)
class Log:
    """Where events of one kind of work lie; `of` is the flow or source that it belongs to."""

    broker: Broker
    of: str | None = None

    @property
    def key(self) -> BrokerKey:
        return BrokerKey(self.broker.namespace, self.broker.name)


@dataclass(frozen=True, slots=True)
class TriggerLine:
    """A Trigger and the log that takes its replies (None: nobody wants them).

    `in_flow`: an event has one reply here, whatever id its subscriber gives it. `brings_replies`:
    its events are replies, stored on their way to a service or a URI.
    """

    trigger: Trigger
    replies: BrokerKey | None
    wanted: Predicate
    in_flow: bool = False
    brings_replies: bool = False

    @property
    def log(self) -> BrokerKey:
        return BrokerKey(self.trigger.namespace, self.trigger.broker)


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything that a plan runs on; `pings` says which log the events of a PingSource enter."""

    logs: Mapping[BrokerKey, Log]
    lines: tuple[TriggerLine, ...]
    pings: tuple[tuple[PingSource, BrokerKey], ...] = ()


@dataclass(slots=True)
class _Draft:
    logs: dict[BrokerKey, Log] = field(default_factory=dict)
    lines: list[TriggerLine] = field(default_factory=list)
    pings: list[tuple[PingSource, BrokerKey]] = field(default_factory=list)

    def add_channel(self, namespace: str, name: str, of: str, delivery: Delivery) -> BrokerKey:
        log = Log(Broker(namespace, name, delivery=delivery), of)
        self.logs[log.key] = log
        return log.key

    def add_line(
        self,
        log: BrokerKey,
        name: str,
        subscriber: Destination,
        replies: BrokerKey | None = None,
        delivery: Delivery | None = None,
        *,
        brings_replies: bool = False,
    ) -> None:
        trigger = Trigger(log.namespace, name, log.name, subscriber, delivery=delivery)
        self.lines.append(TriggerLine(trigger, replies, _everything, True, brings_replies))

    def replies_to(
        self, destination: Destination | None, subscription: BrokerKey, of: str, delivery: Delivery
    ) -> BrokerKey | None:
        """The log that takes the replies of a Subscription for `destination`."""
        if destination is None:
            return None
        if (key := entry_key(destination)) is not None:
            return key
        name = reply_channel(subscription.name)
        log = self.add_channel(subscription.namespace, name, of, delivery)
        self.add_line(log, name, destination, brings_replies=True)
        return log


def wire(plan: Plan, answers: Callable[[RequestReply], Predicate]) -> Wiring:
    """The logs and lines of a plan; `answers` says which events a RequestReply waits for."""
    draft = _Draft()
    for broker in plan.brokers:
        log = Log(broker)
        draft.logs[log.key] = log
    for trigger in plan.triggers:
        key = BrokerKey(trigger.namespace, trigger.broker)
        draft.lines.append(TriggerLine(trigger, key, wanted_by(trigger)))
    for sequence in plan.sequences:
        _add_sequence(draft, sequence)
    for parallel in plan.parallels:
        _add_parallel(draft, parallel)
    for each in plan.request_replies:
        draft.lines.append(_line_of(each, answers(each)))
    for source in plan.ping_sources:
        _add_ping(draft, source)
    return Wiring(draft.logs, tuple(draft.lines), tuple(draft.pings))


def entry_key(destination: Destination) -> BrokerKey | None:
    """The log of the Broker or flow that a destination refers to; None for another one."""
    ref = destination.ref
    name = None if ref is None else entry_of(ref.kind, ref.name)
    return None if ref is None or name is None else BrokerKey(ref.namespace, name)


def _add_sequence(draft: _Draft, flow: SequenceFlow) -> None:
    of, whole = f"Sequence {flow.namespace}/{flow.name}", flow.channel_delivery or _ONCE
    keys = [
        draft.add_channel(flow.namespace, sequence_channel(flow.name, number), of, whole)
        for number in range(len(flow.steps))
    ]
    for number, (key, step) in enumerate(zip(keys, flow.steps, strict=True)):
        if number + 1 < len(keys):
            replies: BrokerKey | None = keys[number + 1]
        else:
            replies = draft.replies_to(flow.reply, key, of, step.delivery or whole)
        draft.add_line(key, key.name, step.subscriber, replies, step.delivery)


def _add_parallel(draft: _Draft, flow: ParallelFlow) -> None:
    """Every branch is a line on the entry; with a filter, the filter is, and its replies go on."""
    of, whole = f"Parallel {flow.namespace}/{flow.name}", flow.channel_delivery or _ONCE
    entry = draft.add_channel(flow.namespace, parallel_channel(flow.name), of, whole)
    for number, branch in enumerate(flow.branches):
        log, name = entry, branch_channel(flow.name, number)
        if branch.filter is not None:
            log = draft.add_channel(flow.namespace, name, of, whole)
            # Knative gives a branch's delivery to its subscriber alone.
            draft.add_line(entry, filter_subscription(flow.name, number), branch.filter, log)
        here = BrokerKey(flow.namespace, name)
        delivery = branch.delivery or whole
        replies = draft.replies_to(branch.reply or flow.reply, here, of, delivery)
        draft.add_line(log, name, branch.subscriber, replies, branch.delivery)


def _add_ping(draft: _Draft, source: PingSource) -> None:
    key = entry_key(source.sink)
    if key is None:
        of, name = f"PingSource {source.namespace}/{source.name}", ping_channel(source.name)
        key = draft.add_channel(source.namespace, name, of, _PING)
        draft.add_line(key, name, source.sink)
    draft.pings.append((source, key))


def _line_of(each: RequestReply, answers: Predicate) -> TriggerLine:
    """The Trigger that Knative makes of a RequestReply."""
    ref = Ref("RequestReply", each.namespace, each.name, KNATIVE_EVENTING_V1ALPHA1)
    subscriber = Destination(ref=ref, uri="/reply")
    trigger = Trigger(
        each.namespace, reply_trigger(each.name), each.broker, subscriber, delivery=each.delivery
    )
    return TriggerLine(trigger, None, answers)


def _everything(_: object) -> bool:
    return True
