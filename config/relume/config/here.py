"""What a manifest may use of the files around it and of this machine: values and folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relume.config.function import Objects
from relume.config.nodes import Table


@dataclass(frozen=True, slots=True)
class Machine:
    """What the user gives to manifests beside the files.

    `environment` stands for Secrets that no file has; `volumes` are folders by the name of a
    PersistentVolumeClaim, or by `NAMESPACE/NAME`.
    """

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    volumes: Mapping[str, Path] = field(default_factory=dict)


NOTHING = Machine()  # a user who gives nothing but files


ResourceKey = tuple[str, str, str]  # kind, namespace, name


@dataclass(frozen=True, slots=True)
class ManifestSurroundings:
    """A machine, and the documents of the same files that others refer to."""

    machine: Machine = field(default_factory=Machine)
    objects: Objects = field(default_factory=dict, repr=False)
    documents: Mapping[ResourceKey, Table] = field(default_factory=dict, repr=False)

    @property
    def environment(self) -> Mapping[str, str]:
        """The user's own variables."""
        return self.machine.environment

    def values_of(self, kind: str, namespace: str, name: str) -> Mapping[str, str] | None:
        """The values of a Secret or ConfigMap of these files, None where it is in none.

        Values that are no UTF-8 text are left out: no variable can hold them.
        """
        found = self.objects.get((kind, namespace, name))
        if found is None:
            return None
        return {key: text for key, data in found.data.items() if (text := _text(data)) is not None}

    def folder_of(self, namespace: str, claim: str) -> Path | None:
        """The folder that stands for a PersistentVolumeClaim, None where nothing says it.

        It is the machine's, or the hostPath of the PersistentVolume that the claim names.
        """
        volumes = self.machine.volumes
        chosen = volumes.get(f"{namespace}/{claim}") or volumes.get(claim)
        if chosen is not None:
            return chosen
        document = self.documents.get(("PersistentVolumeClaim", namespace, claim))
        name = _text_at(document, "spec", "volumeName")
        volume = None if name is None else self._cluster_wide("PersistentVolume", name)
        path = _text_at(volume, "spec", "hostPath", "path")
        path = path or _text_at(volume, "spec", "local", "path")
        return None if path is None else Path(path)

    def _cluster_wide(self, kind: str, name: str) -> Table | None:
        return next((t for (k, _, n), t in self.documents.items() if (k, n) == (kind, name)), None)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _text_at(table: Table | None, *path: str) -> str | None:
    """The text at a path of fields, None where it is not there."""
    here = table
    for name in path[:-1]:
        node = None if here is None else here.get(name)
        here = node if isinstance(node, Table) else None
    node = None if here is None else here.get(path[-1])
    return None if node is None else node.text()
