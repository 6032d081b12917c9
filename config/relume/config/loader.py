"""From files to a plan, with everything checked that one manifest alone does not show.

That is: references to resources in no file (`references`), and what manifests mean only together
(`together`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from relume.base.errors import InvalidInput
from relume.config.config_objects import by_key, read_object
from relume.config.eventing import read_broker, read_trigger
from relume.config.fields import Resource
from relume.config.flows import read_parallel, read_request_reply, read_sequence
from relume.config.func_yaml import FUNC_YAML, read_function
from relume.config.function import ConfigObject, Function, ServiceSettings
from relume.config.function_documents import documents_of, triggers_of
from relume.config.head import API_VERSIONS, OBJECTS, read_head
from relume.config.here import NOTHING, Machine, ManifestSurroundings
from relume.config.knative_service import configured, read_knative_service
from relume.config.nodes import Node
from relume.config.other_documents import read_other
from relume.config.plan import Plan
from relume.config.references import Eventing, check_references, key_of
from relume.config.resources import (
    Broker,
    InferenceService,
    OtherDocument,
    ParallelFlow,
    PingSource,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Trigger,
)
from relume.config.service import read_service
from relume.config.sources import read_ping_source, read_sink_binding
from relume.config.together import check_together
from relume.config.yaml_source import documents

SUFFIXES = (".yaml", ".yml", ".json")
T = TypeVar("T")
Item = InferenceService | Eventing | Function | ServiceSettings | ConfigObject | OtherDocument
_READERS: Mapping[str, Callable[[Resource], Item]] = {
    "InferenceService": read_service,
    "Broker": read_broker,
    "Trigger": read_trigger,
    "Sequence": read_sequence,
    "Parallel": read_parallel,
    "RequestReply": read_request_reply,
    "PingSource": read_ping_source,
    "SinkBinding": read_sink_binding,
    "Service": read_knative_service,
}


_NO_CONTAINER = (
    "no container image runs on this machine: name the folder of its function too, or leave this "
    "Knative Service out"
)


def nothing_to_read(paths: Iterable[Path]) -> InvalidInput:
    """The error that no document is in `paths`."""
    names = ", ".join(map(str, paths))
    return InvalidInput(f"{names}: no manifest is in there", reason="no-manifest")


def load_plan(paths: Sequence[Path], machine: Machine = NOTHING) -> Plan:
    """Read every manifest in `paths` as a cluster would, with what this machine cannot do noted.

    Raises InvalidManifest for what no cluster takes either, and InvalidInput for a path without
    manifests. `relume.config.machine` judges what the plan's `cannot_run` holds.
    """
    read = _read_all(paths, machine)
    if not read:
        raise nothing_to_read(paths)
    resources = [resource for resource, _ in read]
    events = [(resource, item) for resource, item in read if isinstance(item, Eventing)]
    # A Knative Service document has the name of the function that it configures.
    check_together(
        [r for r, item in read if isinstance(item, ServiceSettings)],
        [r for r, item in read if not isinstance(item, ServiceSettings)],
        events,
    )
    check_references(events, resources)
    items = [item for _, item in read]
    functions, containers = _functions(items)
    for resource, item in read:
        if isinstance(item, ServiceSettings) and item in containers:
            resource.cannot_run(item.image_origin, _NO_CONTAINER)
    return Plan(
        services=_of_type(items, InferenceService),
        brokers=_of_type(items, Broker),
        triggers=_of_type(items, Trigger),
        sequences=_of_type(items, SequenceFlow),
        parallels=_of_type(items, ParallelFlow),
        request_replies=_of_type(items, RequestReply),
        ping_sources=_of_type(items, PingSource),
        sink_bindings=_of_type(items, SinkBinding),
        others=_of_type(items, OtherDocument),
        not_honoured=tuple(
            note for resource in resources for note in sorted(resource.left, key=lambda n: n.line)
        ),
        functions=functions,
        containers=containers,
        objects=_of_type(items, ConfigObject),
        cannot_run=tuple(
            note
            for resource in resources
            for note in sorted(resource.cannot, key=lambda n: n.origin.line)
        ),
    )


def kubernetes_documents(file: Path) -> Iterator[Node]:
    """The documents of a file; of a func.yaml those that func makes of it."""
    for document in documents(file):
        if file.name != FUNC_YAML:
            yield document
            continue
        _, function = read_function(document, os.environ)
        yield from documents_of(function)


def _read_all(paths: Sequence[Path], machine: Machine) -> list[tuple[Resource, Item]]:
    """Every document of the files, in their order; a func.yaml is a function and its Triggers."""
    functions: dict[int, Function] = {}
    resources: list[Resource] = []
    for file in manifest_files(paths):
        for document in documents(file):
            if file.name == FUNC_YAML:
                resource, functions[len(resources)] = read_function(document, os.environ)
                resources += [resource, *map(read_head, triggers_of(functions[len(resources)]))]
            else:
                resources.append(read_head(document))
    objects = [read_object(r) for r in resources if r.is_run and r.kind in OBJECTS]
    tables = {key_of(resource): resource.body for resource in resources}
    here = ManifestSurroundings(machine, by_key(objects), tables)
    for resource in resources:
        resource.here = here
    return [
        (resource, functions.get(number) or _read(resource, here))
        for number, resource in enumerate(resources)
    ]


def _read(resource: Resource, here: ManifestSurroundings) -> Item:
    if not resource.is_run:
        return read_other(resource, API_VERSIONS)
    return here.objects.get(key_of(resource)) or _READERS[resource.kind](resource)


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
