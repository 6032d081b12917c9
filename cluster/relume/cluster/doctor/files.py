"""The documents of files, including those that cannot be read, and those that are settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from relume.base.errors import InvalidInput, InvalidManifest
from relume.base.vocabulary import EVENTING_NAMESPACE, SERVING_NAMESPACE
from relume.cluster.admission import Cluster
from relume.cluster.admission.cluster import settings_of
from relume.cluster.admission.judge import child, content
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.render.folder import with_renderings
from relume.config.loader import manifest_files
from relume.config.nodes import Node, Table
from relume.config.yaml_source import documents


@dataclass(slots=True)
class FileDocument:
    """One document and what reading it found; `root` is None for text that is no YAML."""

    file: Path
    line: int
    root: Node | None
    findings: list[Finding] = field(default_factory=list)

    @property
    def api_version(self) -> str:
        """`apiVersion`, "" where there is none."""
        return content(child(self.root, "apiVersion"))

    @property
    def kind(self) -> str:
        """`kind`, "" where there is none."""
        return content(child(self.root, "kind"))

    @property
    def name(self) -> str:
        """`metadata.name`, "" where there is none."""
        return content(child(self.root, "metadata", "name"))

    @property
    def namespace(self) -> str:
        """`metadata.namespace`, "" where there is none."""
        return content(child(self.root, "metadata", "namespace"))


def read_files(paths: Sequence[Path]) -> list[FileDocument]:
    """Every document of `paths`. What is not YAML ends its file, with a finding.

    Of a folder that `relume render` wrote all of its base and the patches of the cluster; what is
    for kustomize alone is left out, as no cluster sees it.
    Raises InvalidInput for a path that is not there or cannot be read, or where no document is.
    """
    files = manifest_files(with_renderings(paths))
    found = [one for file in files for one in _read(file) if not _of_kustomize(one)]
    if not found:
        names = ", ".join(map(str, paths))
        raise InvalidInput(f"{names}: no manifest is in there", reason="no-manifest")
    return found


def _of_kustomize(one: FileDocument) -> bool:
    return one.api_version.startswith("kustomize.config.k8s.io/")


def _read(file: Path) -> list[FileDocument]:
    found: list[FileDocument] = []
    repeated: list[InvalidManifest] = []
    try:
        for root in documents(file, repeated.append):
            findings = [_finding(error, "repeated-field") for error in repeated]
            found.append(FileDocument(file, root.line, root, findings))
            repeated.clear()
    except InvalidManifest as error:
        broken = [_finding(one, "repeated-field") for one in repeated]
        broken.append(_finding(error, "not-yaml"))
        found.append(FileDocument(file, error.line, None, broken))
    return found


def _finding(error: InvalidManifest, reason: str) -> Finding:
    message = str(error).removeprefix(f"{error.file}:{error.line}: {error.field}: ")
    fix = REASONS[reason].fix
    return Finding(reason, error.field, message, fix, error.file, error.line)


_NAMESPACES = (SERVING_NAMESPACE, EVENTING_NAMESPACE, "kserve")
_MAPS = ("config-features", "config-defaults", "config-autoscaler")


def with_settings_of(read: Sequence[FileDocument], cluster: Cluster) -> Cluster:
    """The cluster as it is once the config maps among the documents are applied to it."""
    settings = dict(cluster.settings)
    for one in read:
        data = child(one.root, "data")
        if not isinstance(data, Table) or not _is_settings(one):
            continue
        try:
            settings |= settings_of(data)
        except InvalidInput:  # Knative would not take the map either
            continue
    return replace(cluster, settings=settings)


def _is_settings(one: FileDocument) -> bool:
    return one.kind == "ConfigMap" and one.name in _MAPS and one.namespace in _NAMESPACES


def of_installed(one: FileDocument, finding: Finding) -> bool:
    """Whether a field is missing only because the document is laid over one that is there."""
    return finding.reason == "missing-field" and one.namespace in _NAMESPACES
