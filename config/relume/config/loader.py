"""From files to a plan."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.config.eventing import Broker, Trigger
from relume.config.fields import Resource
from relume.config.metadata import read_head
from relume.config.notices import note_together
from relume.config.plan import Plan
from relume.config.references import check_references, check_unique
from relume.config.service import read_service
from relume.config.services import InferenceService
from relume.config.trigger import read_broker, read_trigger
from relume.config.yaml_source import documents

SUFFIXES = (".yaml", ".yml", ".json")
Item = InferenceService | Broker | Trigger
_READERS: Mapping[str, Callable[[Resource], Item]] = {
    "InferenceService": read_service,
    "Broker": read_broker,
    "Trigger": read_trigger,
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
    note_together(events)
    return Plan(
        services=tuple(item for _, item in read if isinstance(item, InferenceService)),
        brokers=tuple(item for _, item in read if isinstance(item, Broker)),
        triggers=tuple(item for _, item in read if isinstance(item, Trigger)),
        not_honoured=tuple(
            note for resource in resources for note in sorted(resource.left, key=lambda n: n.line)
        ),
    )


def manifest_files(paths: Sequence[Path]) -> list[Path]:
    """The files of `paths` in order, each once; of a folder those in it that are manifests by name.

    Raises InvalidInput for a path that is not there and a folder without manifests.
    """
    files: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file())
            if not found:
                raise InvalidInput(
                    f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}",
                    reason="no-manifest",
                )
        elif path.exists():
            found = [path]
        else:
            raise InvalidInput(f"{path}: no such file", reason="no-such-file")
        for file in found:
            files.setdefault(file.resolve(), file)
    return list(files.values())
