"""The model store: one folder a model, found by the `storageUri` that a manifest names.

A model in the store is whole, whenever the power goes out. It appears in one rename after it was
checked and flushed to disk, together with `relume.json`, which records its URI and its files.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from relume.base.errors import InvalidInput
from relume.base.home import NoHome, expanded, home
from relume.runtimes.models import Silent, StoreProgress
from relume.runtimes.models.errors import ModelMissing, ModelNotPrepared
from relume.runtimes.models.sources import (
    KNOWN_MODELS,
    KnownModel,
    fetch_known,
    fetch_uri,
    known_model,
)

RECORD = "relume.json"
# Folders beside the models; a folder in them is no model.
PARTIAL = ".partial"  # being made
OLD = ".old"  # being replaced
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,150}")


def default_root() -> Path:
    """$RELUME_HOME/models, $XDG_CACHE_HOME/relume/models or ~/.cache/relume/models.

    Raises InvalidInput where one of these is no folder, and NoHome.
    """
    if folder := os.environ.get("RELUME_HOME"):
        try:
            chosen = expanded(folder)
        except NoHome as error:
            raise NoHome(f"RELUME_HOME={error}") from None
        return _folder(chosen, "RELUME_HOME") / "models"
    cache = os.environ.get("XDG_CACHE_HOME")
    there = _folder(Path(cache), "XDG_CACHE_HOME") if cache else home("RELUME_HOME") / ".cache"
    return there / "relume" / "models"


def _folder(path: Path, variable: str) -> Path:
    if os.path.exists(path) and not path.is_dir():  # noqa: PTH110 (Path.exists may raise)
        raise InvalidInput(f"{variable}={path} is not a folder; name one that may be written")
    return path


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that a predictor can load; `bytes` is its size on disk, `note` is for the user."""

    uri: str
    path: Path
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """The contents of relume.json; `files` maps a path in the folder to its size in bytes."""

    uri: str
    note: str
    source: str
    files: dict[str, int]


class ModelStore:
    """The models under one root folder. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def resolve(self, storage_uri: str) -> Path:
        """The folder of a model that is ready to load.

        Raises ModelMissing, which names the URI and the command that prepares it.
        """
        local = local_path(storage_uri)
        if local is not None:
            if not local.is_dir():
                raise ModelMissing(f"{storage_uri}: there is no folder {local}")
            return local
        stored = self._stored(self._folder(storage_uri))
        if stored is None:
            known = known_model(storage_uri)
            raise ModelMissing(
                f"{storage_uri} is not in the model store {self.root}: run "
                f"relume models prepare {known.name if known else storage_uri}"
            )
        return stored.path

    def list(self) -> tuple[StoredModel, ...]:
        """Every whole model in the store, by URI."""
        found = [self._stored(record.parent) for record in self.root.glob(f"*/{RECORD}")]
        return tuple(sorted((m for m in found if m is not None), key=lambda m: m.uri))

    def prepare(self, name_or_uri: str, progress: StoreProgress | None = None) -> StoredModel:
        """Bring a model into the store, unless it is there already; local paths stay in place.

        Raises ModelMissing for a path or short name that is not there, UnusableModel when the
        fetched files cannot be served, ModelNotPrepared when they could not be fetched or written.
        Whatever happens, the store holds the whole model or nothing of it.
        """
        known = known_model(name_or_uri)
        if known is None and (local := local_path(name_or_uri)) is not None:
            path = self._local(name_or_uri, local)
            return StoredModel(name_or_uri, path, sum(_sizes(path).values()), "used in place")
        uri = known.uri if known else name_or_uri
        watcher = progress or Silent()
        folder = self._folder(uri)
        try:
            with exclusive(
                self._lock(folder.name), lambda: watcher.begin("wait for another run", None)
            ):
                sweep(self.root, self._lock)
                return self._stored(folder) or self._make(folder, uri, known, watcher)
        except OSError as error:
            raise ModelNotPrepared(f"{uri} could not be stored: {error}") from error

    def _make(
        self, folder: Path, uri: str, known: KnownModel | None, progress: StoreProgress
    ) -> StoredModel:
        with staged(folder) as partial:
            if known is not None:
                source = fetch_known(known, partial, progress)
            else:
                source = fetch_uri(uri, partial, progress)
            files = _sizes(partial)
            record = _Record(uri, known.note if known else "", source, files)
            text = json.dumps(asdict(record), indent=2, ensure_ascii=False)
            (partial / RECORD).write_text(text + "\n", encoding="utf-8")
            progress.begin("flush to disk", None)
        return StoredModel(uri, folder, sum(files.values()), record.note)

    def _local(self, uri: str, path: Path) -> Path:
        if path.is_dir():
            return path
        if "/" in uri:
            raise ModelMissing(f"{uri}: there is no folder {path}")
        names = ", ".join(model.name for model in KNOWN_MODELS)
        raise ModelMissing(f"no model is named {uri}: known are {names}, or give a URI or a folder")

    def _folder(self, uri: str) -> Path:
        """hf://org/model → hf--org--model; a URI that does not fit into a name gets its hash."""
        readable = uri.replace("://", "--").replace("/", "--")
        if _PLAIN_NAME.fullmatch(readable) and "--" not in uri and "-/" not in uri + "/":
            return self.root / readable
        digest = hashlib.sha256(uri.encode()).hexdigest()[:12]
        return self.root / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', readable)[:100]}-{digest}"

    def _lock(self, folder_name: str) -> Path:
        return self.root / ".locks" / f"{folder_name}.lock"

    def _stored(self, folder: Path) -> StoredModel | None:
        """The model in `folder`, or None where it is not there or a file is gone or cut short."""
        try:
            record = _Record(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
            whole = all((folder / n).stat().st_size == size for n, size in record.files.items())
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        if not whole:
            return None
        return StoredModel(record.uri, folder, sum(record.files.values()), record.note)


def local_path(uri: str) -> Path | None:
    """The folder that a file:// URI or a plain path names; None for every other URI."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InvalidInput(f"{uri}: a file URI names no other machine; write file:///path")
        return Path(unquote(parts.path))
    return None if "://" in uri else expanded(uri)


def _sizes(folder: Path) -> dict[str, int]:
    """Path in the folder → size in bytes, of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


@contextmanager
def exclusive(lock: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `lock` (an flock, so a killed holder frees it); `waiting` is called before a wait."""
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
    """Remove every folder that a killed run left in `root`, but none that is still being made."""
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
