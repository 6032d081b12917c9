"""Folders that appear whole or not at all, whenever the power goes out."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Folders beside the targets; what is in them is nobody's model.
PARTIAL = ".partial"  # being made
OLD = ".old"  # being replaced


@contextmanager
def exclusive(lock: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `lock` (an flock, so a killed holder frees it); `waiting` is told before a wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty folder on `target`'s disk; on success it becomes `target` in one rename.

    On an error nothing is left. What a killed run left is cleared first, so the caller must hold a
    lock on `target`. A `target` that is already there is replaced.
    """
    partial = target.parent / PARTIAL / target.name
    old = target.parent / OLD / target.name
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
        leftover.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir()
    try:
        yield partial
        make_readable_and_durable(partial)
        if target.exists():
            target.rename(old)
        partial.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(root: Path, lock_of: Callable[[str], Path]) -> None:
    """Remove every folder that a killed run left in `root`; one that somebody still makes stays."""
    for folder in [*root.glob(f"{PARTIAL}/*"), *root.glob(f"{OLD}/*")]:
        lock = lock_of(folder.name)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder, ignore_errors=True)


def make_readable_and_durable(folder: Path) -> None:
    """Flush a tree to disk; files get mode 0644 (some writers leave 0600), folders 0755."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        path.chmod(0o755 if path.is_dir() else 0o644)
        sync(path)
    folder.chmod(0o755)
    sync(folder)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
