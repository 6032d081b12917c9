"""A folder is written again and again, never over somebody's work, and cleaned of what was."""

import json
from pathlib import Path

import pytest

from relume.base.errors import InvalidInput
from relume.cluster.render import Rendering
from relume.cluster.render.folder import MARKER, write


def rendering(**files: str) -> Rendering:
    return Rendering({}, {name.replace("__", "/"): text for name, text in files.items()}, (), ())


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def test_a_folder_is_made_with_the_files(tmp_path: Path) -> None:
    done = write(rendering(base__a="1", cluster__b="2"), tmp_path / "new" / "out")
    assert tree(tmp_path / "new" / "out") == {"base/a": "1", "cluster/b": "2"}
    assert done.written == ("base/a", "cluster/b")


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    write(rendering(base__a="1", base__b="2"), tmp_path)
    before = (tmp_path / "base/a").stat().st_mtime_ns
    done = write(rendering(base__a="1", base__b="3"), tmp_path)
    assert (done.unchanged, done.written) == (("base/a",), ("base/b",))
    assert (tmp_path / "base/a").stat().st_mtime_ns == before


def test_files_of_an_earlier_rendering_go_and_others_stay(tmp_path: Path) -> None:
    write(rendering(base__a="1", cluster__b="2"), tmp_path)
    (tmp_path / "base" / "mine").write_text("mine")
    done = write(rendering(base__c="3"), tmp_path)
    assert done.removed == ("base/a", "cluster/b")
    assert tree(tmp_path) == {"base/c": "3", "base/mine": "mine"}
    assert not (tmp_path / "cluster").exists()


@pytest.mark.parametrize("name", ["other", "base/other", "base/a/deep"])
def test_a_folder_with_other_files_is_refused_and_not_touched(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("precious")
    with pytest.raises(InvalidInput, match="was not made by relume render") as error:
        write(rendering(base__b="1"), tmp_path)
    assert error.value.reason == "folder-not-ours"
    assert tree(tmp_path) == {name: "precious"}
    assert not (tmp_path / MARKER).exists()


def test_force_writes_beside_them(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    write(rendering(base__a="1"), tmp_path, force=True)
    assert tree(tmp_path) == {"other": "precious", "base/a": "1"}


def test_a_folder_with_nothing_but_such_files_is_ours(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/a").write_text("0")
    write(rendering(base__a="1", base__b="2"), tmp_path)
    assert tree(tmp_path) == {"base/a": "1", "base/b": "2"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InvalidInput, match="not a folder"):
        write(rendering(a="1"), tmp_path / "out")


@pytest.mark.parametrize("name", ["../victim", "/victim", "base/../../victim"])
def test_a_marker_cannot_reach_outside_its_folder(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / MARKER).write_text(json.dumps({"files": [name]}))
    write(rendering(a="1"), out)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1}', '{"files": [1, null]}'])
def test_a_marker_that_cannot_be_read_makes_no_folder_ours(text: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(text)
    (tmp_path / "other").write_text("precious")
    if text != '{"files": [1, null]}':
        with pytest.raises(InvalidInput):
            write(rendering(a="1"), tmp_path)
    else:
        write(rendering(a="1"), tmp_path)
    assert (tmp_path / "other").read_text() == "precious"


def test_a_rendering_that_broke_off_is_cleaned_by_the_next(tmp_path: Path) -> None:
    """The names are all in the marker before the first file is."""
    write(rendering(base__a="1"), tmp_path)
    (tmp_path / "base/b").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(rendering(base__b="2", base__c="3"), tmp_path)
    (tmp_path / "base/b").rmdir()
    write(rendering(base__d="4"), tmp_path)
    assert tree(tmp_path) == {"base/d": "4"}
