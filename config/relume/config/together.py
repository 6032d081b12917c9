"""What manifests mean only together: names, addresses, and a Trigger with its Broker."""

from collections.abc import Iterable, Sequence

from relume.base.errors import InvalidManifest
from relume.config.broker_classes import READ_BY, profile_name
from relume.config.channels import channels_of, trigger_of
from relume.config.fields import Resource
from relume.config.here import ResourceKey
from relume.config.references import Eventing, key_of
from relume.config.resources import (
    Broker,
    Delivery,
    Destination,
    ParallelFlow,
    PingSource,
    Ref,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Trigger,
)


def check_together(
    settings: Sequence[Resource],
    resources: Sequence[Resource],
    events: Sequence[tuple[Resource, Eventing]],
) -> None:
    """Raise InvalidManifest for names that clash, and note what a Broker makes of its Triggers.

    `settings` are Knative Services, which have the names of the functions that they configure.
    """
    _check_unique(settings)
    _check_unique(resources)
    _check_addresses((*settings, *resources))
    _check_channels(events)
    _check_bindings(events)
    _note_together(events)


def _check_unique(resources: Sequence[Resource]) -> None:
    """Raise InvalidManifest for the second resource of one kind, namespace and name.

    Only kinds that are run are looked at: of others, two groups may have one of the same name.
    """
    seen: dict[ResourceKey, Resource] = {}
    for resource in resources:
        if not resource.is_run:
            continue
        first = seen.setdefault(key_of(resource), resource)
        if first is not resource:
            at = resource.origin
            raise InvalidManifest(
                f"{resource.kind} {resource.namespace}/{resource.name} is already defined at "
                f"{first.origin.file}:{first.origin.line}",
                file=at.file,
                line=at.line,
                field=at.field,
            )


def _check_addresses(resources: Iterable[Resource]) -> None:
    """Raise InvalidManifest for a function that has the name of an InferenceService."""
    models = {(r.namespace, r.name) for r in resources if r.kind == "InferenceService"}
    for resource in resources:
        if resource.is_run and resource.kind == "Service" and key_of(resource)[1:] in models:
            at = resource.origin
            raise InvalidManifest(
                f"InferenceService {resource.namespace}/{resource.name} has the same address: "
                "choose another name",
                file=at.file,
                line=at.line,
                field=at.field,
            )


def _check_channels(read: Iterable[tuple[Resource, Eventing]]) -> None:
    """Raise InvalidManifest for a Broker or Trigger with a name that a flow or source uses here."""
    pairs = list(read)
    used: dict[ResourceKey, Resource] = {}
    for resource, item in pairs:
        if isinstance(item, SequenceFlow | ParallelFlow | PingSource):
            for name in channels_of(item):
                used["Broker", item.namespace, name] = resource
        elif isinstance(item, RequestReply):
            used["Trigger", item.namespace, trigger_of(item)] = resource
    for resource, _ in pairs:
        if (flow := used.get(key_of(resource))) is not None:
            raise InvalidManifest(
                f"{resource.kind} {resource.namespace}/{resource.name}: {flow.kind} {flow.name} "
                "uses this name for a part of itself: write another",
                file=resource.origin.file,
                line=resource.origin.line,
                field=resource.origin.field,
            )


def _check_bindings(read: Iterable[tuple[Resource, Eventing]]) -> None:
    """Raise InvalidManifest for the second SinkBinding of one subject: it has one K_SINK."""
    seen: dict[Ref, Resource] = {}
    for resource, item in read:
        if isinstance(item, SinkBinding):
            first = seen.setdefault(item.subject, resource)
            if first is not resource:
                spec = resource.body.need("spec", "").table()
                subject = spec.need("subject", "").table()
                raise subject.need("name", "").wrong(
                    f"SinkBinding {first.name} at {first.origin.file}:{first.origin.line} has "
                    "the same subject: a Service has one K_SINK"
                )


def _note_together(read: Iterable[tuple[Resource, Eventing]]) -> None:
    """Note annotations that the Broker's class ignores, and events that come back for ever."""
    pairs = list(read)
    brokers = {(b.namespace, b.name): (r, b) for r, b in pairs if isinstance(b, Broker)}
    for resource, item in pairs:
        if isinstance(item, Trigger) and (item.namespace, item.broker) in brokers:
            where, broker = brokers[item.namespace, item.broker]
            _note_annotations(resource, broker)
            _note_loop(item, broker, resource, where)
        elif isinstance(item, SequenceFlow | ParallelFlow):
            triggers = [trigger for _, trigger in pairs if isinstance(trigger, Trigger)]
            _note_circle(item, resource, triggers)


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


def _note_circle(
    flow: SequenceFlow | ParallelFlow, resource: Resource, triggers: Sequence[Trigger]
) -> None:
    """A reply to a Broker whose Trigger sends every event into the flow again never ends.

    No time to live ends it: an event that is posted to a flow begins a new one.
    """
    reply = flow.reply.ref if flow.reply is not None else None
    for trigger in triggers:
        back = trigger.subscriber.ref
        if reply is None or back is None or trigger.filters or trigger.legacy_attributes:
            continue
        to = ("Broker", trigger.namespace, trigger.broker)
        own = (resource.kind, flow.namespace, flow.name)
        if (reply.kind, reply.namespace, reply.name) == to and (
            back.kind,
            back.namespace,
            back.name,
        ) == own:
            resource.leave_out(
                resource.body.need("spec", "").table().need("reply", ""),
                f"Trigger {trigger.name} sends every event of Broker {trigger.broker} into "
                f"{resource.kind} {flow.name}, its own replies too, for ever: give it filters",
            )


def _sink(delivery: Delivery | None) -> Destination | None:
    return delivery.dead_letter_sink if delivery else None
