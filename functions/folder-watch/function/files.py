"""Which files of a folder are to be told of: those that have been still for a while, each once.

What was told is kept in a file of its own, a line for each content of each file, so that a restart
tells nothing twice, and a file that changed is told again.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """A file whose content is new. `path` is relative to the folder, with `/`."""

    path: str
    digest: str  # SHA-256 of the content, in hexadecimal
    content: bytes | None  # None: larger than the limit
    size: int


@dataclass
class Folder:
    """A folder under watch. `still_s`: a file that changed less than that ago may grow yet."""

    root: Path
    record: Path
    still_s: float
    most_bytes: int
    _told: set[tuple[str, str]] = field(default_factory=set)
    _stamps: dict[str, tuple[int, int]] = field(default_factory=dict)

    def load(self) -> None:
        """Read what was told; a last line that a crash cut off is no line."""
        if not self.record.exists():
            self.record.parent.mkdir(parents=True, exist_ok=True)
            return
        for line in self.record.read_text(encoding="utf-8").splitlines():
            try:
                path, digest = json.loads(line)
            except ValueError:
                continue
            self._told.add((path, digest))

    def look(self, now: float) -> list[Found]:
        """The files that are still and new, by name. Hidden files and links are left out."""
        found: list[Found] = []
        for path in sorted(self.root.rglob("*")):
            relative = path.relative_to(self.root)
            if any(part.startswith(".") for part in relative.parts):
                continue
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                new = self._new(path, relative.as_posix(), now)
            except OSError:  # gone again, or not readable yet
                continue
            if new is not None:
                found.append(new)
        return found

    def _new(self, path: Path, name: str, now: float) -> Found | None:
        before = path.stat()
        stamp = (before.st_mtime_ns, before.st_size)
        if self._stamps.get(name) == stamp or now - before.st_mtime < self.still_s:
            return None
        digest, content = _read(path, self.most_bytes)
        if path.stat().st_mtime_ns != before.st_mtime_ns:
            return None
        if (name, digest) in self._told:
            self._stamps[name] = stamp
            return None
        return Found(name, digest, content, before.st_size)

    def told(self, found: Found) -> None:
        """Keep that the event of a file was taken."""
        with self.record.open("a", encoding="utf-8") as record:
            record.write(json.dumps([found.path, found.digest]) + "\n")
            record.flush()
            os.fsync(record.fileno())
        self._told.add((found.path, found.digest))


def _read(path: Path, most_bytes: int) -> tuple[str, bytes | None]:
    """The digest of a file, and its content unless it is too large."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        content: bytes | None = file.read(most_bytes + 1)
        digest.update(content or b"")
        if len(content or b"") > most_bytes:
            content = None
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest(), content
