"""The documents of files, including those that cannot be read, and those that are settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from relume.base.errors import InvalidInput, InvalidManifest
from relume.base.vocabulary import EVENTING_NAMESPACE, KUSTOMIZE_GROUP, SERVING_NAMESPACE
from relume.cluster.admission import Cluster
from relume.cluster.admission.cluster import settings_of
from relume.cluster.admission.judge import child, content, entries, fields, truth
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.render.folder import with_renderings
from relume.config.func_yaml import FUNC_YAML
from relume.config.loader import kubernetes_documents, manifest_files, nothing_to_read
from relume.config.nodes import Node, Table
from relume.config.yaml_source import documents


@dataclass(frozen=True, slots=True)
class DocumentHead:
    """Where a document is, and what it says of itself ("" for what it leaves out)."""

    file: Path
    line: int
    api_version: str
    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class FileDocument(DocumentHead):
    """A document, and what reading it found; `root` is None for text that is no YAML."""

    root: Node | None
    findings: tuple[Finding, ...]


def read_files(paths: Sequence[Path]) -> list[FileDocument]:
    """Every document of `paths`. Text that is not YAML ends its file, with a finding.

    Of a folder that `relume render` wrote, the whole base and the patches of the cluster are read.
    Documents for kustomize are left out, because no cluster sees them.
    Raises InvalidInput for a path that is not there or cannot be read, or where no document is.
    """
    files = manifest_files(with_renderings(paths))
    read = (one for file in files for one in _read(file))
    found = [one for one in read if not one.api_version.startswith(f"{KUSTOMIZE_GROUP}/")]
    if not found:
        raise nothing_to_read(paths)
    return found


def _read(file: Path) -> Iterator[FileDocument]:
    repeated: list[InvalidManifest] = []
    if file.name == FUNC_YAML:
        yield from _read_function(file)
        return
    try:
        for root in documents(file, repeated.append):
            yield _document(file, root.line, root, repeated)
            repeated.clear()
    except InvalidManifest as error:
        yield _document(file, error.line, None, repeated, _finding(error, "not-yaml"))


def _read_function(file: Path) -> Iterator[FileDocument]:
    """What func deploy would make of a func.yaml; one that is wrong is a finding."""
    try:
        for root in kubernetes_documents(file):
            yield _document(file, root.line, root, ())
    except InvalidManifest as error:
        yield _document(file, error.line, None, (), _finding(error, "func-yaml"))


def _document(
    file: Path, line: int, root: Node | None, repeated: Sequence[InvalidManifest], *more: Finding
) -> FileDocument:
    paths = (("apiVersion",), ("kind",), ("metadata", "namespace"), ("metadata", "name"))
    version, kind, namespace, name = (content(child(root, *path)) for path in paths)
    findings = (_finding(error, "repeated-field") for error in repeated)
    found = (*findings, *more)
    return FileDocument(file, line, version, kind, namespace, name, root, found)


def _finding(error: InvalidManifest, reason: str) -> Finding:
    message = str(error).removeprefix(f"{error.file}:{error.line}: {error.field}: ")
    fix = REASONS[reason].fix
    return Finding(reason, error.field, message, fix, error.file, error.line)


_NAMESPACES = (SERVING_NAMESPACE, EVENTING_NAMESPACE, "kserve")
_ADMIN = "resource.kubernetes.io/admin-access"
_MAPS = ("config-features", "config-defaults", "config-autoscaler")


def with_settings_of(read: Sequence[FileDocument], cluster: Cluster) -> Cluster:
    """The cluster as it is once the documents that change what it takes are applied to it.

    These are the config maps of Knative, CRDs, and namespaces whose label opens admin access to
    devices.
    """
    settings = dict(cluster.settings)
    defines = {*cluster.defines, *chain.from_iterable(map(_defined, read))}
    admin = {*cluster.admin_namespaces, *(one.name for one in read if _gives_admin(one))}
    for one in read:
        data = child(one.root, "data")
        if not isinstance(data, Table) or not _is_settings(one):
            continue
        try:
            settings |= settings_of(data)
        except InvalidInput:  # Knative would not take the map either
            continue
    return replace(
        cluster,
        settings=settings,
        defines=frozenset(defines),
        admin_namespaces=frozenset(admin),
    )


def _defined(one: FileDocument) -> Iterator[tuple[str, str]]:
    """apiVersion and kind of what a CustomResourceDefinition adds to a cluster."""
    if one.kind != "CustomResourceDefinition":
        return
    group, kind = (content(one.root, "spec", *path) for path in (("group",), ("names", "kind")))
    for version in entries(one.root, "spec", "versions"):
        if truth(version, "served"):
            yield f"{group}/{content(version, 'name')}", kind


def _gives_admin(one: FileDocument) -> bool:
    labels = fields(one.root, "metadata", "labels")
    return one.kind == "Namespace" and content(labels.get(_ADMIN)) == "true"


def _is_settings(one: FileDocument) -> bool:
    return one.kind == "ConfigMap" and one.name in _MAPS and one.namespace in _NAMESPACES


def of_installed(one: FileDocument, finding: Finding) -> bool:
    """Whether a field is missing only because the document is laid over one that is there."""
    return finding.reason == "missing-field" and one.namespace in _NAMESPACES
