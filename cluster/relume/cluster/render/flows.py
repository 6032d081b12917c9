"""Flows and sources for a cluster: as written, with deliveries that outlast a cold start."""

from collections.abc import Iterator, Mapping, Sequence

from relume.base.vocabulary import EVENTING_NAMESPACE, JsonValue
from relume.cluster.render.draft import Book, PathStep, Setting
from relume.cluster.render.eventing import Subscriber, deliver
from relume.cluster.render.originals import Original
from relume.config import Delivery, Destination, ParallelFlow, Plan, RequestReply, SequenceFlow
from relume.config.references import ResourceKey
from relume.config.yaml_source import plain

Subscribers = Mapping[ResourceKey, Subscriber]
_TEMPLATE = ("spec", "channelTemplate")
# knative/eventing pkg/requestreply/ingress_handler.go
_MINUTE_S = 60.0


def render_flows(
    plan: Plan, known: Mapping[ResourceKey, Original], subscribers: Subscribers, book: Book
) -> bool:
    """Adopt every flow and source; whether one of them sends to an InferenceService."""
    for kind, items in (("PingSource", plan.ping_sources), ("SinkBinding", plan.sink_bindings)):
        for item in items:
            original = known[kind, item.namespace, item.name]
            book.adopt(original.file, original.body())
    for each in plan.request_replies:
        _request_reply(each, known["RequestReply", each.namespace, each.name], book)
    sent = [_sequence(each, known, subscribers, book) for each in plan.sequences]
    sent += [_parallel(each, known, subscribers, book) for each in plan.parallels]
    sinks = (source.sink for source in plan.ping_sources)
    return any(sent) or any(_behind(sink, subscribers) for sink in sinks)


def _request_reply(each: RequestReply, original: Original, book: Book) -> None:
    book.adopt(original.file, original.body())
    if each.timeout_s != _MINUTE_S:
        book.note(
            original.at("spec", "timeout"),
            f"a cluster waits one minute, whatever timeout says, and not {each.timeout_s:g} s",
        )
    if each.delivery is not None:
        book.note(original.at("spec", "delivery"), "a cluster does not read it")


def _sequence(
    flow: SequenceFlow,
    known: Mapping[ResourceKey, Original],
    subscribers: Subscribers,
    book: Book,
) -> bool:
    steps = [
        (("spec", "steps", number), step.subscriber, step.delivery)
        for number, step in enumerate(flow.steps)
    ]
    original = known["Sequence", flow.namespace, flow.name]
    return _flow(flow, original, steps, subscribers, book)


def _parallel(
    flow: ParallelFlow,
    known: Mapping[ResourceKey, Original],
    subscribers: Subscribers,
    book: Book,
) -> bool:
    branches = [
        (("spec", "branches", number), branch.subscriber, branch.delivery)
        for number, branch in enumerate(flow.branches)
    ]
    original = known["Parallel", flow.namespace, flow.name]
    return _flow(flow, original, branches, subscribers, book)


def _flow(
    flow: SequenceFlow | ParallelFlow,
    original: Original,
    parts: Sequence[tuple[tuple[PathStep, ...], Destination, Delivery | None]],
    subscribers: Subscribers,
    book: Book,
) -> bool:
    draft = book.adopt(original.file, original.body())
    node = original.node(*_TEMPLATE, "spec", "delivery")
    written: JsonValue = None if node is None else plain(node)
    if original.node(*_TEMPLATE) is None:
        book.note(
            original.at("spec"),
            "without channelTemplate it runs on the cluster's default Channel, which as shipped "
            "stores nothing: name another for work that counts",
        )
    found = False
    for path, destination, own in parts:
        if (subscriber := _behind(destination, subscribers)) is not None:
            found = True
            at = (*path, "delivery")
            deliver(draft, at, own, flow.channel_delivery, written, subscriber.budget)
    for delivery in _deliveries(flow):
        if delivery.retry_after_max_s is not None:
            why = f"{original.kind} {original.namespace}/{original.name} has delivery.retryAfterMax"
            key = "delivery-retryafter"
            book.need(Setting("config-features", key, "Enabled", why, EVENTING_NAMESPACE))
    return found


def _deliveries(flow: SequenceFlow | ParallelFlow) -> Iterator[Delivery]:
    parts = flow.steps if isinstance(flow, SequenceFlow) else flow.branches
    for delivery in (flow.channel_delivery, *(part.delivery for part in parts)):
        if delivery is not None:
            yield delivery


def _behind(destination: Destination, subscribers: Subscribers) -> Subscriber | None:
    ref = destination.ref
    return None if ref is None else subscribers.get((ref.kind, ref.namespace, ref.name))
