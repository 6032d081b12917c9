"""From files to a plan, with everything checked that one manifest alone does not show.

That is: names that are there twice, references to resources in no file, and what a Trigger and its
Broker mean together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config.broker_classes import READ_BY, profile_name
from relume.config.eventing import ADDRESSABLE, read_broker, read_trigger
from relume.config.fields import Resource, did_you_mean
from relume.config.head import API_VERSIONS, read_head
from relume.config.here import NOTHING, Machine, Surroundings
from relume.config.nodes import Node, Table
from relume.config.other_documents import read_other
from relume.config.resources import (
    Broker,
    Delivery,
    Destination,
    InferenceService,
    OtherDocument,
    Plan,
    Trigger,
)
from relume.config.service import read_service
from relume.config.yaml_source import documents

SUFFIXES = (".yaml", ".yml", ".json")
Item = InferenceService | Broker | Trigger | OtherDocument
_READERS: Mapping[str, Callable[[Resource], Item]] = {
    "InferenceService": read_service,
    "Broker": read_broker,
    "Trigger": read_trigger,
}


def load_plan(paths: Sequence[Path], machine: Machine = NOTHING) -> Plan:
    """Read every manifest in `paths` as a cluster would, with what this machine cannot do noted.

    Raises InvalidManifest for what no cluster takes either, and InvalidInput for a path without
    manifests. `relume.config.machine` judges what the plan's `cannot_run` holds.
    """
    resources = [
        read_head(document) for file in manifest_files(paths) for document in documents(file)
    ]
    if not resources:
        names = ", ".join(str(path) for path in paths)
        raise InvalidInput(f"{names}: no manifest is in there", reason="no-manifest")
    here = Surroundings(machine, {_key(resource): resource.body for resource in resources})
    for resource in resources:
        resource.here = here
    read = [(resource, _read(resource)) for resource in resources]
    check_unique(resources)
    events = [(r, item) for r, item in read if isinstance(item, Broker | Trigger)]
    check_references(events, resources)
    note_together(events)
    return Plan(
        services=tuple(item for _, item in read if isinstance(item, InferenceService)),
        brokers=tuple(item for _, item in read if isinstance(item, Broker)),
        triggers=tuple(item for _, item in read if isinstance(item, Trigger)),
        others=tuple(item for _, item in read if isinstance(item, OtherDocument)),
        not_honoured=tuple(
            note for resource in resources for note in sorted(resource.left, key=lambda n: n.line)
        ),
        cannot_run=tuple(
            note
            for resource in resources
            for note in sorted(resource.cannot, key=lambda n: n.origin.line)
        ),
    )


def _read(resource: Resource) -> Item:
    reader = _READERS.get(resource.kind)
    return read_other(resource, API_VERSIONS) if reader is None else reader(resource)


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


ResourceKey = tuple[str, str, str]  # kind, namespace, name


def check_unique(resources: Sequence[Resource]) -> None:
    """Raise InvalidManifest for the second resource of one kind, namespace and name.

    Only kinds that are run are looked at: of others, two groups may have one of the same name.
    """
    seen: dict[ResourceKey, Resource] = {}
    for resource in resources:
        if resource.kind not in API_VERSIONS:
            continue
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
    """Note every Broker, subscriber and dead letter sink that is in no file."""
    known = {_key(resource) for resource in resources}
    for resource, item in read:
        if isinstance(item, Trigger):
            key = ("Broker", item.namespace, item.broker)
            _check(key, known, resource, "spec", "broker")
            _check_destination(item.subscriber, known, resource, "spec", "subscriber")
        sink = _sink(item.delivery)
        if sink is not None:
            _check_destination(sink, known, resource, "spec", "delivery", "deadLetterSink")


def _check_destination(
    destination: Destination, known: set[ResourceKey], resource: Resource, *path: str
) -> None:
    ref = destination.ref
    if ref is not None and ref.kind in ADDRESSABLE:
        _check((ref.kind, ref.namespace, ref.name), known, resource, *path, "ref", "name")


def _check(key: ResourceKey, known: set[ResourceKey], resource: Resource, *path: str) -> None:
    if key in known:
        return
    kind, namespace, name = key
    near = [other for k, ns, other in known if (k, ns) == (kind, namespace)]
    elsewhere = sorted(ns for k, ns, other in known if (k, other) == (kind, name))
    hint = did_you_mean(name, near)
    if elsewhere:
        hint = f"; one is in namespace {elsewhere[0]}"
    at = _at(resource.body, path).origin
    resource.cannot_run(at, f"no {kind} {namespace}/{name} is in these files{hint}")


def _at(body: Table, path: Sequence[str]) -> Node:
    node: Node = body
    for name in path:
        node = node.table().entries[name]
    return node


def _key(resource: Resource) -> ResourceKey:
    return (resource.kind, resource.namespace, resource.name)


def note_together(read: Iterable[tuple[Resource, Broker | Trigger]]) -> None:
    """Note annotations that the Broker's class ignores, and dead letters that come back."""
    pairs = list(read)
    brokers = {(b.namespace, b.name): (r, b) for r, b in pairs if isinstance(b, Broker)}
    for resource, item in pairs:
        if isinstance(item, Trigger) and (item.namespace, item.broker) in brokers:
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
