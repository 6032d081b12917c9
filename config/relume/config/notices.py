"""What a Trigger and its Broker mean together, said once when they are read."""

from collections.abc import Iterable

from relume.config.broker_classes import READ_BY, profile_name
from relume.config.eventing import Broker, Delivery, Destination, Trigger
from relume.config.fields import Resource


def note_together(read: Iterable[tuple[Resource, Broker | Trigger]]) -> None:
    """Note annotations that the Broker's class does not read, and dead letters that come back."""
    pairs = list(read)
    brokers = {(b.namespace, b.name): (r, b) for r, b in pairs if isinstance(b, Broker)}
    for resource, item in pairs:
        if isinstance(item, Trigger):
            where, broker = brokers[item.namespace, item.broker]
            _note_annotations(resource, broker)
            _note_loop(item, broker, resource, where)


def _note_annotations(resource: Resource, broker: Broker) -> None:
    profile = profile_name(broker.broker_class)
    for key, profiles in READ_BY.items():
        node = resource.annotations.get(key)
        if node is not None and profile not in profiles:
            resource.leave_out(node, f"a Broker of class {broker.broker_class} does not read it")


def _note_loop(trigger: Trigger, broker: Broker, own: Resource, brokers: Resource) -> None:
    """A dead letter that comes back to its Trigger fails again, until its time to live ends."""
    for delivery, resource in ((trigger.delivery, own), (broker.delivery, brokers)):
        sink = _sink(delivery)
        if sink is None:
            continue
        ref = sink.ref
        if ref and (ref.kind, ref.namespace, ref.name) == ("Broker", broker.namespace, broker.name):
            spec = resource.body.need("spec", "").table()
            resource.leave_out(
                spec.need("delivery", "").table().need("deadLetterSink", ""),
                f"dead letters of Trigger {trigger.name} come back to its own Broker: what its "
                "filter takes again is tried again, up to 255 times; write another Broker",
            )
        return


def _sink(delivery: Delivery | None) -> Destination | None:
    return delivery.dead_letter_sink if delivery else None
