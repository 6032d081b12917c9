"""From files to a plan, with everything checked that one manifest alone does not show.

That is: names that are there twice, references to resources in no file, and what a Trigger and its
Broker mean together.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config.broker_classes import READ_BY, profile_name
from relume.config.config_objects import read_object
from relume.config.eventing import read_broker, read_trigger
from relume.config.fields import Resource, did_you_mean
from relume.config.func_yaml import FUNC_YAML, read_function
from relume.config.function import ConfigObject, Function, ServiceSettings
from relume.config.function_documents import documents_of, triggers_of
from relume.config.head import read_head
from relume.config.knative_service import configured, read_knative_service
from relume.config.nodes import Node, Table
from relume.config.resources import Broker, Delivery, Destination, InferenceService, Plan, Trigger
from relume.config.service import read_service
from relume.config.yaml_source import documents

SUFFIXES = (".yaml", ".yml", ".json")
Item = InferenceService | Broker | Trigger | Function | ServiceSettings | ConfigObject
_READERS: Mapping[str, Callable[[Resource], Item]] = {
    "InferenceService": read_service,
    "Broker": read_broker,
    "Trigger": read_trigger,
    "Service": read_knative_service,
    "Secret": read_object,
    "ConfigMap": read_object,
}


def load_plan(paths: Sequence[Path]) -> Plan:
    """See `relume.config.load`."""
    read: list[tuple[Resource, Item]] = []
    for file in manifest_files(paths):
        for document in documents(file):
            read += _read(document)
    if not read:
        names = ", ".join(str(path) for path in paths)
        raise InvalidInput(f"{names}: no manifest is in there", reason="no-manifest")
    resources = [resource for resource, _ in read]
    # A Knative Service document has the name of the function that it configures.
    check_unique([r for r, item in read if isinstance(item, ServiceSettings)])
    check_unique([r for r, item in read if not isinstance(item, ServiceSettings)])
    _check_addresses(resources)
    events = [(r, item) for r, item in read if isinstance(item, Broker | Trigger)]
    check_references(events, resources)
    note_together(events)
    functions, containers = _functions([item for _, item in read])
    return Plan(
        services=tuple(item for _, item in read if isinstance(item, InferenceService)),
        brokers=tuple(item for _, item in read if isinstance(item, Broker)),
        triggers=tuple(item for _, item in read if isinstance(item, Trigger)),
        not_honoured=tuple(
            note for resource in resources for note in sorted(resource.left, key=lambda n: n.line)
        ),
        functions=functions,
        containers=containers,
        objects=tuple(item for _, item in read if isinstance(item, ConfigObject)),
    )


def kubernetes_documents(file: Path) -> Iterator[Node]:
    """The documents of a file; of a func.yaml those that func makes of it."""
    for document in documents(file):
        if file.name != FUNC_YAML:
            yield document
            continue
        _, function = read_function(document, os.environ)
        yield from documents_of(function)


def _read(document: Node) -> Iterator[tuple[Resource, Item]]:
    """A document; of a func.yaml the function and the Triggers of its subscriptions."""
    if document.file.name != FUNC_YAML:
        resource = read_head(document)
        yield resource, _READERS[resource.kind](resource)
        return
    function_resource, function = read_function(document, os.environ)
    yield function_resource, function
    for tree in triggers_of(function):
        resource = read_head(tree)
        yield resource, read_trigger(resource)


def _functions(
    items: Sequence[Item],
) -> tuple[tuple[Function, ...], tuple[ServiceSettings, ...]]:
    """The functions as their Knative Services configure them, and the Services of no function."""
    settings = {(i.namespace, i.name): i for i in items if isinstance(i, ServiceSettings)}
    functions = []
    for function in items:
        if isinstance(function, Function):
            own = settings.pop((function.namespace, function.name), None)
            functions.append(function if own is None else configured(function, own))
    return tuple(functions), tuple(settings.values())


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
        if (path / FUNC_YAML).is_file():
            return [path / FUNC_YAML]
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
    """Raise InvalidManifest for the second resource of one kind, namespace and name."""
    seen: dict[ResourceKey, Resource] = {}
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


def _check_addresses(resources: Iterable[Resource]) -> None:
    """Raise InvalidManifest for a function that has the name of an InferenceService."""
    models = {(r.namespace, r.name) for r in resources if r.kind == "InferenceService"}
    for resource in resources:
        if resource.kind == "Service" and _key(resource)[1:] in models:
            at = resource.origin
            raise InvalidManifest(
                f"InferenceService {resource.namespace}/{resource.name} has the same address: "
                "choose another name",
                file=at.file,
                line=at.line,
                field=at.field,
            )


def check_references(
    read: Iterable[tuple[Resource, Broker | Trigger]], resources: Sequence[Resource]
) -> None:
    """Raise InvalidManifest for a Broker, subscriber or dead letter sink that is in no file."""
    known = {_key(resource) for resource in resources}
    for resource, item in read:
        if isinstance(item, Trigger):
            key = ("Broker", item.namespace, item.broker)
            _check(key, known, resource.body, "spec", "broker")
            _check_destination(item.subscriber, known, resource.body, "spec", "subscriber")
        if item.delivery is not None:
            _check_delivery(item.delivery, known, resource.body)


def _check_delivery(delivery: Delivery, known: set[ResourceKey], body: Table) -> None:
    if delivery.dead_letter_sink is not None:
        _check_destination(
            delivery.dead_letter_sink, known, body, "spec", "delivery", "deadLetterSink"
        )


def _check_destination(
    destination: Destination, known: set[ResourceKey], body: Table, *path: str
) -> None:
    ref = destination.ref
    if ref is not None:
        _check((ref.kind, ref.namespace, ref.name), known, body, *path, "ref", "name")


def _check(key: ResourceKey, known: set[ResourceKey], body: Table, *path: str) -> None:
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


def _key(resource: Resource) -> ResourceKey:
    return (resource.kind, resource.namespace, resource.name)


def note_together(read: Iterable[tuple[Resource, Broker | Trigger]]) -> None:
    """Note annotations that the Broker's class ignores, and dead letters that come back."""
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
