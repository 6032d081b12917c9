"""A finding of the claims' lints: its document, and what `relume claims explain` says of it."""

from relume.cluster.claims.documents import Document, written
from relume.cluster.claims.yaml_files import FieldPath
from relume.cluster.findings import Finding
from relume.cluster.reasons import Severity

Found = tuple[Document, Finding]  # a finding and the document that it is about


def found(
    document: Document, path: FieldPath, reason: str, gravity: Severity, message: str, fix: str
) -> Found:
    """The finding at a path of a document."""
    field, line = written(path), document.line(path)
    return document, Finding(reason, field, message, fix, document.file, line, gravity)


def sentence(finding: Finding) -> str:
    """A finding in one line: place, field, what is wrong, what to write."""
    return f"{finding.file}:{finding.line}: {finding.field}: {finding.message}: {finding.fix}"


def as_json(document: Document, finding: Finding) -> dict[str, object]:
    """A finding as the command prints it in JSON."""
    return {
        "severity": finding.severity,
        "reason": finding.reason,
        "document": f"{document.kind} {document.name}",
        "file": str(finding.file),
        "line": finding.line,
        "field": finding.field,
        "message": finding.message,
        "fix": finding.fix,
    }
