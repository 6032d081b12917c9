"""What one manifest cannot know: names that are there twice, and references to nothing."""

from collections.abc import Iterable, Sequence

from relume.base.errors import InvalidManifest
from relume.config.eventing import Broker, Delivery, Destination, Trigger
from relume.config.fields import Resource, did_you_mean
from relume.config.nodes import Node, Table

Key = tuple[str, str, str]  # kind, namespace, name


def check_unique(resources: Sequence[Resource]) -> None:
    """Raises InvalidManifest for the second resource of one kind, namespace and name."""
    seen: dict[Key, Resource] = {}
    for resource in resources:
        first = seen.setdefault(_key(resource), resource)
        if first is not resource:
            at = resource.origin
            raise InvalidManifest(
                f"{resource.kind} {resource.namespace}/{resource.name} is already defined at "
                f"{first.origin.file}:{first.origin.line}",
                file=at.file,
                line=at.line,
                field=at.field,
            )


def check_references(
    read: Iterable[tuple[Resource, Broker | Trigger]], resources: Sequence[Resource]
) -> None:
    """Raises InvalidManifest for a Broker, subscriber or dead letter sink that is in no file."""
    known = {_key(resource) for resource in resources}
    for resource, item in read:
        if isinstance(item, Trigger):
            key = ("Broker", item.namespace, item.broker)
            _check(key, known, resource.body, "spec", "broker")
            _check_destination(item.subscriber, known, resource.body, "spec", "subscriber")
        if item.delivery is not None:
            _check_delivery(item.delivery, known, resource.body)


def _check_delivery(delivery: Delivery, known: set[Key], body: Table) -> None:
    if delivery.dead_letter_sink is not None:
        _check_destination(
            delivery.dead_letter_sink, known, body, "spec", "delivery", "deadLetterSink"
        )


def _check_destination(destination: Destination, known: set[Key], body: Table, *path: str) -> None:
    ref = destination.ref
    if ref is not None:
        _check((ref.kind, ref.namespace, ref.name), known, body, *path, "ref", "name")


def _check(key: Key, known: set[Key], body: Table, *path: str) -> None:
    if key in known:
        return
    kind, namespace, name = key
    near = [other for k, ns, other in known if (k, ns) == (kind, namespace)]
    elsewhere = sorted(ns for k, ns, other in known if (k, other) == (kind, name))
    hint = did_you_mean(name, near)
    if elsewhere:
        hint = f"; one is in namespace {elsewhere[0]}"
    raise _at(body, path).wrong(f"no {kind} {namespace}/{name} is in these files{hint}")


def _at(body: Table, path: Sequence[str]) -> Node:
    node: Node = body
    for name in path:
        node = node.table().entries[name]
    return node


def _key(resource: Resource) -> Key:
    return (resource.kind, resource.namespace, resource.name)
