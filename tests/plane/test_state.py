"""The state folder, and how other commands find the plane that uses it."""

import errno
import fcntl
import json
import multiprocessing
import os
import shutil
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from relume.cli.machine.client import find_plane
from relume.plane.addresses import PlaneFile, StateFolder, StateInUse, default_state

PLANE = PlaneFile(
    pid=os.getpid(),
    http="http://127.0.0.1:18080",
    broker="http://127.0.0.1:18081",
    started_at="2026-01-01T00:00:00Z",
    version="0.1.0",
)


def test_the_addresses_are_there_while_the_plane_serves_and_not_after(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.held(), folder.published(PLANE):
        assert folder.read() == PLANE
        assert json.loads(folder.plane_json.read_text())["pid"] == os.getpid()
    assert folder.read() is None
    assert not folder.plane_json.exists()


def test_nobody_else_may_read_what_a_plane_keeps(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    with folder.held():
        assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_second_plane_on_the_same_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    with folder.held(), folder.published(PLANE):
        second = StateFolder(tmp_path).held()
        with pytest.raises(StateInUse, match=r"http://127.0.0.1:18080 \(pid \d+\)"):
            second.__enter__()
        assert folder.read() == PLANE
    with StateFolder(tmp_path).held():
        pass


def _hold_and_die(path: str, held: Event) -> None:
    folder = StateFolder(Path(path))
    with folder.held(), folder.sockets() as sockets, folder.published(PLANE):
        (sockets / "template.sock").touch()
        held.set()
        os._exit(9)


def test_a_plane_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    child = context.Process(target=_hold_and_die, args=(str(tmp_path), held))
    child.start()
    child.join()
    assert held.is_set()
    folder = StateFolder(tmp_path)
    assert folder.plane_json.exists()
    left = (tmp_path / "sockets").resolve()
    assert (left / "template.sock").exists()
    with folder.held(), folder.sockets() as sockets:
        assert folder.read() is None
        assert not left.exists()
        assert (tmp_path / "sockets").resolve() == sockets
    assert not (tmp_path / "sockets").is_symlink()


def test_the_sockets_of_a_plane_that_runs_are_not_taken_by_one_on_a_copy(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "state").held(), StateFolder(tmp_path / "state").sockets() as mine:
        shutil.copytree(tmp_path / "state", tmp_path / "copy", symlinks=True)
        with StateFolder(tmp_path / "copy").sockets() as others:
            assert mine.is_dir()
            assert others != mine


def test_a_plane_starts_where_no_link_to_its_sockets_can_be_made(tmp_path: Path) -> None:
    """`scp -r` of the state of a plane that runs makes a folder of the link."""
    (tmp_path / "sockets").mkdir()
    (tmp_path / "sockets" / "left").touch()
    with StateFolder(tmp_path).sockets() as sockets:
        assert sockets.is_dir()
    assert (tmp_path / "sockets" / "left").exists()


def test_a_folder_of_sockets_that_cannot_be_locked_is_used_and_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "NFS locks no folder")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with StateFolder(tmp_path).sockets() as mine, StateFolder(tmp_path).sockets() as others:
        assert mine.is_dir() and others.is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_torn_file_is_no_plane(tmp_path: Path, text: str) -> None:
    folder = StateFolder(tmp_path)
    folder.plane_json.write_text(text)
    assert folder.read() is None


def test_the_default_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELUME_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state() == tmp_path / ".local/state/relume"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_state() == tmp_path / "xdg/relume"
    monkeypatch.setenv("RELUME_STATE", str(tmp_path / "own"))
    assert default_state() == tmp_path / "own"


def test_a_plane_is_found_by_option_then_environment_then_state_then_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RELUME_URL", raising=False)
    monkeypatch.setenv("RELUME_STATE", str(tmp_path))
    assert find_plane(None) == "http://127.0.0.1:8080"
    with StateFolder(tmp_path).published(PLANE):
        assert find_plane(None) == "http://127.0.0.1:18080"
        monkeypatch.setenv("RELUME_URL", "http://10.0.0.1:9/")
        assert find_plane(None) == "http://10.0.0.1:9"
        assert find_plane("localhost:7070") == "http://localhost:7070"
