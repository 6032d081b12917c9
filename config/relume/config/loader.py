"""From files to a plan, with everything checked that one manifest alone does not show.

That is: names that are there twice, references to resources in no file (`references`), and what a
Trigger and its Broker mean together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config.broker_classes import READ_BY, profile_name
from relume.config.channels import channels_of, trigger_of
from relume.config.eventing import read_broker, read_trigger
from relume.config.fields import Resource
from relume.config.flows import read_parallel, read_request_reply, read_sequence
from relume.config.head import read_head
from relume.config.references import Eventing, ResourceKey, check_references, key_of
from relume.config.resources import (
    Broker,
    Delivery,
    Destination,
    InferenceService,
    ParallelFlow,
    PingSource,
    Plan,
    Ref,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Trigger,
)
from relume.config.service import read_service
from relume.config.sources import read_ping_source, read_sink_binding
from relume.config.yaml_source import documents

SUFFIXES = (".yaml", ".yml", ".json")
T = TypeVar("T")
Item = InferenceService | Eventing
_READERS: Mapping[str, Callable[[Resource], Item]] = {
    "InferenceService": read_service,
    "Broker": read_broker,
    "Trigger": read_trigger,
    "Sequence": read_sequence,
    "Parallel": read_parallel,
    "RequestReply": read_request_reply,
    "PingSource": read_ping_source,
    "SinkBinding": read_sink_binding,
}


def load_plan(paths: Sequence[Path]) -> Plan:
    """See `relume.config.load`."""
    read: list[tuple[Resource, Item]] = []
    for file in manifest_files(paths):
        for document in documents(file):
            resource = read_head(document)
            read.append((resource, _READERS[resource.kind](resource)))
    if not read:
        names = ", ".join(str(path) for path in paths)
        raise InvalidInput(f"{names}: no manifest is in there", reason="no-manifest")
    resources = [resource for resource, _ in read]
    check_unique(resources)
    events = [(r, item) for r, item in read if not isinstance(item, InferenceService)]
    check_references(events, resources)
    check_channels(events)
    check_bindings(events)
    note_together(events)
    items = [item for _, item in read]
    return Plan(
        services=_of_type(items, InferenceService),
        brokers=_of_type(items, Broker),
        triggers=_of_type(items, Trigger),
        sequences=_of_type(items, SequenceFlow),
        parallels=_of_type(items, ParallelFlow),
        request_replies=_of_type(items, RequestReply),
        ping_sources=_of_type(items, PingSource),
        sink_bindings=_of_type(items, SinkBinding),
        not_honoured=tuple(
            note for resource in resources for note in sorted(resource.left, key=lambda n: n.line)
        ),
    )


def _of_type(items: Iterable[Item], kind: type[T]) -> tuple[T, ...]:
    return tuple(item for item in items if isinstance(item, kind))


def manifest_files(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths` in order, each once; a folder stands for the manifests in it.

    Raises InvalidInput for a path that is not there and a folder without manifests.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        try:
            found = _manifests(path)
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror or error}") from error
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def _manifests(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
        if not found:
            raise InvalidInput(
                f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}",
                reason="no-manifest",
            )
        return found
    if not path.exists():
        raise InvalidInput(f"{path}: no such file", reason="no-such-file")
    return [path]


def check_unique(resources: Sequence[Resource]) -> None:
    """Raise InvalidManifest for the second resource of one kind, namespace and name."""
    seen: dict[ResourceKey, Resource] = {}
    for resource in resources:
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


def check_channels(read: Iterable[tuple[Resource, Eventing]]) -> None:
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


def check_bindings(read: Iterable[tuple[Resource, Eventing]]) -> None:
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


def note_together(read: Iterable[tuple[Resource, Eventing]]) -> None:
    """Note annotations that the Broker's class ignores, and events that come back for ever."""
    pairs = list(read)
    brokers = {(b.namespace, b.name): (r, b) for r, b in pairs if isinstance(b, Broker)}
    for resource, item in pairs:
        if isinstance(item, Trigger):
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
