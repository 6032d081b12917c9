"""What manifests refer to, and whether it is in the same files."""

from collections.abc import Iterable, Iterator, Sequence

from relume.config.eventing import ADDRESSABLE
from relume.config.fields import Resource, did_you_mean
from relume.config.here import ResourceKey
from relume.config.nodes import Items, Node, Table
from relume.config.resources import (
    Broker,
    Delivery,
    Destination,
    ParallelFlow,
    PingSource,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Trigger,
)

Eventing = Broker | Trigger | SequenceFlow | ParallelFlow | RequestReply | PingSource | SinkBinding
# A name of a field, or the number of an item in a list.
Path = tuple[str | int, ...]
_REF = ("ref", "name")


def key_of(resource: Resource) -> ResourceKey:
    """What no two resources may have in common."""
    return (resource.kind, resource.namespace, resource.name)


def check_references(
    read: Iterable[tuple[Resource, Eventing]], resources: Sequence[Resource]
) -> None:
    """Note every Broker, subscriber, sink and reply that is in no file."""
    known = {key_of(resource) for resource in resources}
    for resource, item in read:
        for key, path in _references(item):
            if key not in known:
                at = _at(resource.body, ("spec", *path)).origin
                resource.cannot_run(at, _missing(key, known))


def _references(item: Eventing) -> Iterator[tuple[ResourceKey, Path]]:
    """What an item refers to, and where it says so, below `spec`."""
    match item:
        case Trigger():
            yield ("Broker", item.namespace, item.broker), ("broker",)
            yield from _of(item.subscriber, "subscriber")
            yield from _of_delivery(item.delivery)
        case RequestReply():
            yield ("Broker", item.namespace, item.broker), ("brokerRef", "name")
            yield from _of_delivery(item.delivery)
        case Broker():
            yield from _of_delivery(item.delivery)
        case SequenceFlow():
            for number, step in enumerate(item.steps):
                yield from _of(step.subscriber, "steps", number)
                yield from _of_delivery(step.delivery, "steps", number)
            yield from _of(item.reply, "reply")
            yield from _of_delivery(item.channel_delivery, "channelTemplate", "spec")
        case ParallelFlow():
            for number, branch in enumerate(item.branches):
                yield from _of(branch.filter, "branches", number, "filter")
                yield from _of(branch.subscriber, "branches", number, "subscriber")
                yield from _of(branch.reply, "branches", number, "reply")
                yield from _of_delivery(branch.delivery, "branches", number)
            yield from _of(item.reply, "reply")
            yield from _of_delivery(item.channel_delivery, "channelTemplate", "spec")
        case PingSource():
            yield from _of(item.sink, "sink")
        case SinkBinding():
            yield from _of(item.sink, "sink")
            subject = item.subject
            yield (subject.kind, subject.namespace, subject.name), ("subject", "name")


def _of(destination: Destination | None, *path: str | int) -> Iterator[tuple[ResourceKey, Path]]:
    ref = None if destination is None else destination.ref
    if ref is not None and ref.kind in ADDRESSABLE:
        yield (ref.kind, ref.namespace, ref.name), (*path, *_REF)


def _of_delivery(delivery: Delivery | None, *path: str | int) -> Iterator[tuple[ResourceKey, Path]]:
    if delivery is not None:
        yield from _of(delivery.dead_letter_sink, *path, "delivery", "deadLetterSink")


def _missing(key: ResourceKey, known: set[ResourceKey]) -> str:
    kind, namespace, name = key
    near = [other for k, ns, other in known if (k, ns) == (kind, namespace)]
    elsewhere = sorted(ns for k, ns, other in known if (k, other) == (kind, name))
    hint = did_you_mean(name, near)
    if elsewhere:
        hint = f"; one is in namespace {elsewhere[0]}"
    return f"no {kind} {namespace}/{name} is in these files{hint}"


def _at(body: Table, path: Path) -> Node:
    node: Node = body
    for step in path:
        if isinstance(step, int):
            assert isinstance(node, Items)
            node = node.nodes[step]
        else:
            node = node.table().entries[step]
    return node
