"""Flows and sources for a cluster: as written, with deliveries that outlast a cold start."""

from collections.abc import Mapping, Sequence

from relume.base.vocabulary import EVENTING_NAMESPACE, JsonValue
from relume.cluster.admission.judge import child, content, entries
from relume.cluster.render.draft import Book, Setting
from relume.cluster.render.eventing import Subscriber, deliver
from relume.cluster.render.originals import Original
from relume.cluster.render.reading import check_admitted, read_delivery, read_ref
from relume.config.here import ResourceKey
from relume.config.nodes import Node
from relume.config.yaml_source import plain

SubscribersByKey = Mapping[ResourceKey, Subscriber]
_TEMPLATE = ("spec", "channelTemplate")
# The list of each flow's parts, and where a part names its subscriber.
_PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Sequence": ("steps", ("ref",)),
    "Parallel": ("branches", ("subscriber", "ref")),
}


def render_flows(read: Sequence[Original], subscribers: SubscribersByKey, book: Book) -> bool:
    """Put every flow into `book`; whether a flow or a source sends to an InferenceService."""
    found = False
    for original in read:
        if original.changed and original.kind in _PARTS:
            found = _flow(original, subscribers, book) or found
        elif original.changed and original.kind == "RequestReply":
            _request_reply(original, book)
        elif original.kind == "PingSource":
            sink = _behind(original.node("spec", "sink", "ref"), original, subscribers)
            found = sink is not None or found
    return found


def _request_reply(original: Original, book: Book) -> None:
    """knative/eventing `pkg/requestreply/ingress_handler.go` waits a minute, and delivers once."""
    check_admitted(original.table, book)
    book.adopt(original.file, original.body())
    timeout = original.node("spec", "timeout")
    if timeout is not None and content(timeout) not in ("PT1M", "PT60S"):
        message = f"a cluster waits one minute, whatever timeout says, and not {content(timeout)}"
        book.note(timeout, message)
    if (delivery := original.node("spec", "delivery")) is not None:
        book.note(delivery, "a cluster does not read it")


def _flow(original: Original, subscribers: SubscribersByKey, book: Book) -> bool:
    check_admitted(original.table, book)
    draft = book.adopt(original.file, original.body())
    node = original.node(*_TEMPLATE, "spec", "delivery")
    written: JsonValue = None if node is None else plain(node)
    if original.node(*_TEMPLATE) is None:
        book.note(
            original.at("spec"),
            "without channelTemplate it runs on the cluster's default Channel, which as shipped "
            "stores nothing: name another for work that counts",
        )
    inherited = read_delivery(node)
    parts, ref = _PARTS[original.kind]
    found, deliveries = False, [inherited]
    for number, part in enumerate(entries(original.table, "spec", parts)):
        own = read_delivery(child(part, "delivery"))
        deliveries.append(own)
        if (subscriber := _behind(child(part, *ref), original, subscribers)) is not None:
            found = True
            at = ("spec", parts, number, "delivery")
            deliver(draft, at, own, inherited, written, subscriber)
    if any(each is not None and each.retry_after_max_s is not None for each in deliveries):
        why = f"{original.kind} {original.namespace}/{original.name} has delivery.retryAfterMax"
        key = "delivery-retryafter"
        book.need(Setting("config-features", key, "Enabled", why, EVENTING_NAMESPACE))
    return found


def _behind(
    node: Node | None, original: Original, subscribers: SubscribersByKey
) -> Subscriber | None:
    ref = read_ref(node, original)
    return None if ref is None else subscribers.get((ref.kind, ref.namespace, ref.name))
