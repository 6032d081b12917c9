"""What is likely a mistake in claims, classes and inventories, whatever an allocation says."""

from collections.abc import Iterable
from dataclasses import dataclass

from relume.config.claims.documents import Document


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: where, what is wrong (a stable word), and in words with the fix."""

    reason: str
    message: str
    file: str
    line: int
    field: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"

    def as_json(self) -> dict[str, object]:
        return {
            "reason": self.reason,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "field": self.field,
        }


def lint(documents: Iterable[Document]) -> list[Finding]:
    """Every finding in the documents, in their order."""
    return []
