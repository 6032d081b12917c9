"""What rendering makes: documents in files, notes for the reader, and who decided what."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relume.cluster.render.draft import Decision, Json


@dataclass(frozen=True, slots=True)
class Note:
    """Something that whoever applies the files should know, at the field that it is about."""

    file: Path | None
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"{where}{self.field}: {self.message}" if self.field else f"{where}{self.message}"


@dataclass(frozen=True, slots=True)
class Rendering:
    """`documents` by file, relative to the folder; `files` is their text, in the same order."""

    documents: Mapping[str, tuple[dict[str, Json], ...]]
    files: Mapping[str, str]
    notes: tuple[Note, ...]
    decisions: tuple[Decision, ...]
