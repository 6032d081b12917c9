"""A rendering as a folder that can be written again and again, and never over somebody's work."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from relume.base.errors import InvalidInput
from relume.cluster.render.rendering import Rendering
from relume.cluster.rendered import MARKER


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the folder's files, relative to it."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def write(rendering: Rendering, folder: Path, *, force: bool = False) -> Written:
    """Write the files of `rendering`, and remove those of an earlier one that are no more.

    Files that somebody else put beside ours are left alone. Raises InvalidInput for a folder with
    files in it that no rendering made, unless `force`; then nothing was changed.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder}: not a folder", reason="not-a-folder")
    earlier = _earlier(folder)
    if earlier is None and not force:
        _check_ours(folder, rendering.files)
    known = set(earlier or ())
    folder.mkdir(parents=True, exist_ok=True)
    # First all names, old and new: whoever comes after a crash can still clean up.
    _mark(folder, known | rendering.files.keys())
    written: list[str] = []
    unchanged: list[str] = []
    for name, text in rendering.files.items():
        (written if _write_file(folder / name, text) else unchanged).append(name)
    removed = sorted(known - rendering.files.keys())
    removed = [name for name in removed if _remove(folder, name)]
    _mark(folder, rendering.files)
    return Written(tuple(written), tuple(unchanged), tuple(removed))


def _earlier(folder: Path) -> list[str] | None:
    """The files of the last rendering into `folder`, None where there was none."""
    try:
        listed = json.loads((folder / MARKER).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(listed, list):
        return None
    return [name for name in listed if isinstance(name, str) and _is_inside(name)]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _check_ours(folder: Path, names: Iterable[str]) -> None:
    ours = {folder / name for name in names}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink() or (not path.is_dir() and path not in ours):
            raise InvalidInput(
                f"{folder}: {path.relative_to(folder)} in there was not made by relume render: "
                "choose another folder, or write --force",
                reason="folder-not-ours",
            )


def _mark(folder: Path, names: Iterable[str]) -> None:
    _write_file(folder / MARKER, json.dumps({"files": sorted(names)}, indent=1) + "\n")


def _write_file(path: Path, text: str) -> bool:
    """Replace the file as a whole; False where it has this text already."""
    try:
        if path.read_text() == text and not path.is_symlink():
            return False
    except (OSError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    beside.write_text(text)
    beside.replace(path)
    return True


def _beside(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.new")


def _remove(folder: Path, name: str) -> bool:
    path = folder / name
    _beside(path).unlink(missing_ok=True)  # of a rendering that broke off
    if not path.is_file() and not path.is_symlink():
        return False
    path.unlink()
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            break
        parent.rmdir()
    return True
