"""Any arguments in any surroundings: an exit code and words, never a traceback.

The cases are drawn from a fixed seed, so that each run tries the same ones. RELUME_FUZZ multiplies
their number.
"""

import errno
import io
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from relume.cli import main as cli_main
from relume.cli.machine import foreground, until_signal
from relume.plane.local import LocalPlane
from relume.runtimes.models import store
from relume.runtimes.models.errors import ModelNotPrepared
from tests.cli.surroundings import (
    ANSWERS,
    EVENT,
    TEXTS,
    URLS,
    Garbage,
    failing_output,
    garbage,
    make_files,
)

CASES = 60 * int(os.environ.get("RELUME_FUZZ", "1"))  # of each command
_STDIN = (b"", EVENT.encode(), b"\xff", b"y\n", b"n\n", b"[" * 100_000, EVENT.encode("utf-16"))
_OUTPUTS = ("utf-8", "ascii", "latin-1", "full", "gone")
_HOMES = ("folder", "file", "none")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to every command that does something."""
    if not isinstance(command, click.Group):
        yield path
        return
    with click.Context(command) as context:
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*path, name))


COMMANDS = list(leaves(cli_main.group))


def found(path: tuple[str, ...]) -> click.Command:
    command: click.Command = cli_main.group
    for name in path:
        assert isinstance(command, click.Group)
        below = command.get_command(click.Context(command), name)
        assert below is not None
        command = below
    return command


class Around:
    """One choice of everything that a command may find."""

    def __init__(
        self, rng: random.Random, files: list[Path], folder: Path, server: Garbage
    ) -> None:
        self.rng = rng
        self.files = files
        self.folder = folder
        self.server = server

    def line(self, path: tuple[str, ...]) -> list[str]:
        """A command line with any of the command's options, and with values of any kind."""
        line = list(path)
        for param in found(path).params:
            for _ in range(self.rng.choice((0, 1, 1, 2) if param.nargs < 0 else (0, 1))):
                if isinstance(param, click.Option):
                    line.append(self.rng.choice([o for o in param.opts if o.startswith("-")]))
                    if param.is_flag:
                        continue
                line.append(self._value(param))
            if isinstance(param, click.Argument) and param.required and self.rng.random() < 0.8:
                line.append(self._value(param))
        return line

    def _value(self, param: click.Parameter) -> str:
        choice = self.rng.random()
        if isinstance(param.type, click.Choice) and choice < 0.8:
            return str(self.rng.choice(list(param.type.choices)))
        if param.name == "url":
            return self.rng.choice((*URLS, self.server.url, self.server.url, self.server.url))
        if isinstance(param.type, click.IntRange | click.FloatRange) and choice < 0.7:
            return str(self.rng.choice((1, 7, 100)))
        likely = 0.9 if isinstance(param.type, click.Path) or param.nargs < 0 else 0.3
        if choice < likely:
            shown = str(self.rng.choice(self.files))
            return f"@{shown}" if param.name == "data" and choice < 0.1 else shown
        return self.rng.choice(TEXTS)

    def environment(self) -> dict[str, str]:
        state = self.rng.choice([*self.files, self.folder / "state"])
        values = {
            "RELUME_URL": self.rng.choice((*URLS, self.server.url, "")),
            "RELUME_STATE": str(state),
            "RELUME_HOME": self.rng.choice((str(state), "~nosuchuser", "~/x", "")),
            "XDG_STATE_HOME": str(self.rng.choice(self.files)),
            "XDG_CACHE_HOME": str(self.rng.choice(self.files)),
            "KUBECONFIG": str(self.rng.choice(self.files)),
            "COLUMNS": self.rng.choice(("0", "1", "abc", "²", "99999")),
            "WEB_CONCURRENCY": "many",
        }
        return {name: value for name, value in values.items() if self.rng.random() < 0.5}

    def output(self) -> io.TextIOWrapper:
        kind = self.rng.choice(_OUTPUTS)
        if kind in ("full", "gone"):
            return failing_output(errno.ENOSPC if kind == "full" else errno.EPIPE)
        return io.TextIOWrapper(io.BytesIO(), kind)

    def stdin(self) -> io.TextIOWrapper | None:
        if self.rng.random() < 0.2:
            return None
        return io.TextIOWrapper(io.BytesIO(self.rng.choice(_STDIN)), "ascii")


@pytest.fixture(scope="module")
def server() -> Iterator[Garbage]:
    with garbage() as running:
        yield running


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plane is started beyond its state folder, and nothing is fetched."""

    run = until_signal._UntilSignal.run

    async def hold_and_show(self: Any) -> int:
        if not isinstance(self._served, LocalPlane):
            return await run(self)
        with self._served._folder.held():
            self._show()
        return 0

    def refuse(*_: object, **__: object) -> None:
        raise ModelNotPrepared("not in a test")

    monkeypatch.setattr(until_signal._UntilSignal, "run", hold_and_show)
    monkeypatch.setattr(foreground, "_leave_to_the_collector_what_comes_now", lambda: None)
    monkeypatch.setattr(store, "fetch_known", refuse)
    monkeypatch.setattr(store, "fetch_uri", refuse)


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("path", COMMANDS, ids="-".join)
def test_no_command_line_ends_in_a_traceback(
    path: tuple[str, ...], tmp_path: Path, server: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = make_files(tmp_path, server.url)
    for number in range(CASES):
        rng = random.Random(f"{path} {number}")
        around = Around(rng, files, tmp_path, server)
        server.answer, server.status = rng.choice(ANSWERS), rng.choice((200, 200, 200, 404, 500))
        with monkeypatch.context() as patch:
            for name in ("RELUME_URL", "RELUME_STATE", "RELUME_HOME", "KUBECONFIG"):
                patch.delenv(name, raising=False)
            for name, value in around.environment().items():
                patch.setenv(name, value)
            _set_home(patch, rng.choice(_HOMES), tmp_path)
            _try(patch, around.line(path), around.stdin(), around.output(), number)


def _set_home(patch: pytest.MonkeyPatch, kind: str, folder: Path) -> None:
    if kind == "none":
        patch.delenv("HOME", raising=False)
        patch.setattr("pwd.getpwuid", lambda _: {}[0])
    else:
        patch.setenv("HOME", str(folder / ("home" if kind == "folder" else "good.yaml")))


def _try(
    patch: pytest.MonkeyPatch,
    line: list[str],
    stdin: io.TextIOWrapper | None,
    stdout: io.TextIOWrapper,
    number: int,
) -> None:
    patch.setattr(sys, "stdin", stdin)
    patch.setattr(sys, "stdout", stdout)
    patch.setattr(sys, "stderr", stderr := io.TextIOWrapper(io.BytesIO(), "ascii"))
    case = f"case {number}: {[word[:200] for word in line]}"
    try:
        code = cli_main.run(line)
    except SystemExit as stop:  # click's, for a reader that is gone
        code = stop.code
    except Exception as error:
        error.add_note(case)
        raise
    stderr.flush()
    assert isinstance(stderr.buffer, io.BytesIO)
    said = stderr.buffer.getvalue().decode("utf-8")
    assert code in (0, 1, 2, 130), case
    assert "Traceback" not in said, case
    if code == 2 and line[0] != "doctor":
        assert said, case
