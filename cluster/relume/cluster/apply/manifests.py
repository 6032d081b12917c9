"""The documents that are applied: rendered here, or read from a folder that was rendered before."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from relume.base.errors import InvalidInput
from relume.cluster.apply.parts import text
from relume.cluster.claims.documents import Document, read
from relume.cluster.render import Note, Options, Rendering, render
from relume.cluster.rendered import base_files, cluster_files, is_rendered
from relume.config.loader import manifest_files

_BUILD = ("Kustomization", "Component")

# What others need comes before them; a policy is waited for before the services that rely on it.
_ORDER = (
    ("Namespace",),
    ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    ("ConfigMap", "Secret", "RabbitmqBrokerConfig"),
    ("DeviceClass",),
    ("ResourceClaim", "ResourceClaimTemplate"),
    ("MutatingAdmissionPolicy",),
    ("MutatingAdmissionPolicyBinding",),
    ("ClusterServingRuntime", "ServingRuntime"),
    ("InferenceService",),
    ("Broker",),
    ("Trigger",),
)
_RANKS = {kind: rank for rank, kinds in enumerate(_ORDER) for kind in kinds}
SERVICES = _RANKS["InferenceService"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document. `document` knows its lines, where it was read from a file."""

    body: Mapping[str, object]
    file: str
    document: Document | None = None

    @property
    def api_version(self) -> str:
        return text(self.body, "apiVersion")

    @property
    def kind(self) -> str:
        return text(self.body, "kind")

    @property
    def name(self) -> str:
        return text(self.body, "metadata", "name")

    @property
    def namespace(self) -> str:
        """The one that it names; empty where it names none."""
        return text(self.body, "metadata", "namespace")

    @property
    def rank(self) -> int:
        """Its place in the order that works: see `in_order`."""
        return _RANKS.get(self.kind, len(_ORDER))

    @property
    def title(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """All documents in the order that works, and the patches that are the administrator's."""

    manifests: tuple[Manifest, ...]
    patches: tuple[Manifest, ...] = ()
    notes: tuple[Note, ...] = ()


def in_order(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """Namespaces, then what others refer to, policies, runtimes, services, events, the rest."""
    return tuple(sorted(manifests, key=lambda one: one.rank))


def read_source(paths: Sequence[Path], options: Options, *, as_is: bool = False) -> Source:
    """What to apply for `paths`.

    A folder that `relume render` made is taken as it stands, with the documents that somebody added
    to its base; anything else is rendered first, unless `as_is`. Raises InvalidInput for what
    cannot be read, or is no object.
    """
    folders = [path for path in paths if is_rendered(path)]
    if folders and len(folders) < len(paths):
        raise InvalidInput(f"{folders[0]} is rendered already: apply it by itself")
    if folders:
        found = [one for folder in folders for one in _documents(base_files(folder))]
        patches = [one for folder in folders for one in _documents(cluster_files(folder))]
        return Source(in_order(found), tuple(patches))
    if as_is:
        return Source(in_order(_documents(manifest_files(paths))))
    return _of_rendering(render(paths, options))


def _of_rendering(rendering: Rendering) -> Source:
    base = [
        Manifest(body, file)
        for file, bodies in rendering.documents.items()
        if file.startswith("base/")
        for body in bodies
        if body["kind"] not in _BUILD
    ]
    patches = [
        Manifest(yaml.safe_load(content), file)
        for file, content in rendering.files.items()
        if file.startswith("cluster/")
    ]
    return Source(in_order(base), tuple(patches), rendering.notes)


def _documents(files: Iterable[Path]) -> Iterator[Manifest]:
    for file in sorted(files):
        for document in read(file):
            if document.kind in _BUILD:
                continue
            manifest = Manifest(document.data, f"{file}:{document.line(())}", document)
            for name in ("apiVersion", "kind"):
                if not text(manifest.body, name):
                    raise document.wrong((), f"{name} is missing")
            if not manifest.name:
                raise document.wrong(("metadata",), "metadata.name is missing")
            yield manifest
