"""What a lint says: where, what, why, and what to write instead."""

from dataclasses import dataclass
from typing import Literal

from relume.cluster.claims.documents import Document, written
from relume.cluster.claims.yaml_files import FieldPath

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `reason` is a stable kebab-case word; an error cannot work as it stands."""

    severity: Severity
    reason: str
    document: Document
    path: FieldPath
    message: str
    fix: str

    @property
    def line(self) -> int:
        return self.document.line(self.path)

    @property
    def field(self) -> str:
        """As Kubernetes writes it: `spec.selectors[0].cel.expression`."""
        return written(self.path)

    def __str__(self) -> str:
        return f"{self.document.file}:{self.line}: {self.field}: {self.message}: {self.fix}"

    def as_json(self) -> dict[str, object]:
        return {
            "severity": self.severity,
            "reason": self.reason,
            "document": f"{self.document.kind} {self.document.name}",
            "file": str(self.document.file),
            "line": self.line,
            "field": self.field,
            "message": self.message,
            "fix": self.fix,
        }
