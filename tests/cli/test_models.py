"""`relume models`, over a store in a temporary folder."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from relume.cli.machine.progress import watching
from relume.cli.main import run
from relume.cli.screen import Screen

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELUME_HOME", str(tmp_path))
    return tmp_path


def store(home: Path, uri: str, note: str) -> None:
    """A model that is ready, as the store leaves it."""
    folder = home / "models" / uri.replace("://", "--").replace("/", "--")
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 2_000_000)
    record = {"uri": uri, "note": note, "source": "", "files": {"weights": 2_000_000}}
    (folder / "relume.json").write_text(json.dumps(record))


def test_an_empty_store_says_how_to_fill_it(capsys: Output) -> None:
    assert run(["models", "list"]) == 0
    assert "relume models prepare smollm2" in capsys.readouterr().out


def test_models_are_listed_by_their_storage_uri(home: Path, capsys: Output) -> None:
    store(home, "hf://org/it", "made smaller")
    assert run(["models", "list"]) == 0
    shown = capsys.readouterr().out
    assert "hf://org/it  2 MB  made smaller" in shown
    assert run(["models", "list", "-o", "json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert (model["uri"], model["bytes"]) == ("hf://org/it", 2_000_000)
    assert Path(model["path"], "weights").exists()


def test_preparing_what_is_there_changes_nothing(home: Path, capsys: Output) -> None:
    store(home, "hf://org/it", "")
    assert run(["models", "prepare", "hf://org/it", "hf://org/it"]) == 0
    assert capsys.readouterr().out.count("hf://org/it: hf://org/it, 2 MB\n") == 2


def test_an_unknown_name_exits_2_with_the_known_ones(capsys: Output) -> None:
    assert run(["models", "prepare", "nonsense"]) == 2
    assert "smollm2" in capsys.readouterr().err


def test_a_pipe_gets_one_line_for_each_step() -> None:
    file = io.StringIO()
    with watching(Screen(Console(file=file)), "it") as progress:
        progress.begin("download", 2_000_000)
        progress.advance(1_000_000)
        progress.advance(1_000_000)
        progress.begin("check", None)
    assert file.getvalue() == "it: download (2 MB)\nit: check\n"


def test_a_terminal_gets_bars_that_fill_up() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100)
    with watching(Screen(console), "it") as progress:
        progress.begin("download", 2_000_000)
        progress.advance(2_000_000)
        progress.begin("check", None)
    assert "it: download" in file.getvalue()
    assert "2.0/2.0 MB" in file.getvalue()
