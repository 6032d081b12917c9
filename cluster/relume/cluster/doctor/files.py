"""The documents of files, those included that cannot be read as one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.admission.judge import child, content
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.rendered import with_renderings
from relume.config.loader import manifest_files
from relume.config.nodes import Node
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
