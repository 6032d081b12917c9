"""Where the manifests are in a folder that `relume render` wrote."""

from collections.abc import Sequence
from pathlib import Path

#: Lists the files of the last rendering; says that the folder is ours.
MARKER = ".relume-render.json"


def is_rendered(folder: Path) -> bool:
    """Whether `relume render` wrote this folder."""
    return (folder / MARKER).is_file()


def base_files(folder: Path) -> list[Path]:
    """The base of a rendering, with what somebody added to it."""
    return sorted((folder / "base").rglob("*.yaml"))


def cluster_files(folder: Path) -> list[Path]:
    """The patches that are for the cluster's administrator."""
    return sorted((folder / "cluster").glob("*.yaml"))


def with_renderings(paths: Sequence[Path]) -> list[Path]:
    """`paths`, with the files of a rendering, or of its base, in the place of the folder."""
    found: list[Path] = []
    for path in paths:
        if is_rendered(path):
            found += (*base_files(path), *cluster_files(path))
        elif path.resolve().name == "base" and is_rendered(path.resolve().parent):
            found += sorted(path.rglob("*.yaml"))
        else:
            found.append(path)
    return found
