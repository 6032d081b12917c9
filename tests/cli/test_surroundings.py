"""Real processes with closed, full and ASCII streams, and inputs that are no files."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import IO

import pytest
from starlette.applications import Starlette

from relume.base import environment
from relume.base.errors import InvalidInput
from relume.base.home import NoHome
from relume.cli import main as cli_main
from relume.cli.machine.client import find_plane
from relume.plane.addresses import StateFolder, listen
from relume.plane.server import HttpServer
from relume.runtimes.models.store import default_root
from tests.cli.surroundings import DEEP, MANIFEST, failing_output

COMMAND = [sys.executable, "-m", "relume.cli.main"]
WITHIN_S = 90.0
Output = pytest.CaptureFixture[str]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "b.yaml"
    file.write_text(MANIFEST, encoding="utf-8")
    return file


def shell(
    line: str, *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell, in which `relume` and `$1`, `$2` … stand for what they name."""
    words = line.replace("relume", f"{sys.executable} -m relume.cli.main")
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | dict(env or {})
    return subprocess.run(
        ["bash", "-c", f"ulimit -c 0; {words}", "bash", *map(os.fsencode, map(str, arguments))],
        capture_output=True,
        env=environ,
        timeout=WITHIN_S,
        check=False,
    )


# ---- streams


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_one_line(manifest: Path, buffered: str) -> None:
    line = 'relume trigger test "$1" --type x >/dev/full'
    done = shell(line, manifest, env={"PYTHONUNBUFFERED": buffered})
    said = b"relume: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("close", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_said_keeps_its_exit_code(close: str) -> None:
    done = shell(f"relume status --url http://127.0.0.1:9 {close}")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_output_to_a_closed_stream_is_dropped(manifest: Path) -> None:
    done = shell('relume trigger test "$1" --type é <&- >&- 2>&-', manifest)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_standard_input_is_named() -> None:
    done = shell("relume send --type t --data - <&-")
    said = b"relume: --data -: standard input is closed; name a file\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_a_reader_that_leaves_ends_a_command_silently(manifest: Path) -> None:
    line = [*COMMAND, "trigger", "test", str(manifest), "--type", "x"]
    with _without_a_reader() as pipe:
        done = subprocess.run(line, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


@contextmanager
def _without_a_reader() -> Iterator[int]:
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_an_ascii_terminal_gets_escapes_and_json_stays_json(manifest: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = 'relume trigger test "$1" --type é'
    done = shell(line, manifest, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"type is '\xe9'" in done.stdout
    done = shell(f"{line} -o json", manifest, env=ascii_only)
    assert rb'"type": "\u00e9"' in done.stdout


def test_yaml_is_utf8_in_every_locale(manifest: Path) -> None:
    done = shell('relume render "$1" -o -', manifest, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "é → 漢" in done.stdout.decode("utf-8")


# ---- `relume up`


@pytest.mark.parametrize("close", [">&-", ">/dev/full", "<&- >&- 2>&-"])
def test_up_serves_without_a_standard_output(manifest: Path, tmp_path: Path, close: str) -> None:
    _serves(manifest, tmp_path / "state", close)


def test_up_serves_on_when_the_reader_of_its_output_leaves(manifest: Path, tmp_path: Path) -> None:
    with _without_a_reader() as pipe:
        words = "relume: standard output cannot be written (Broken pipe); the plane goes on"
        _serves(manifest, tmp_path / "state", "", stdout=pipe, says=words)


def _serves(
    manifest: Path, state: Path, streams: str, stdout: int = subprocess.DEVNULL, says: str = ""
) -> None:
    """Start `relume up`, see that it serves, that it says so much, and that a signal drains it."""
    errors = state.with_name("stderr")
    line = f'exec {sys.executable} -m relume.cli.main up "$1" --state "$2" --port 0 '
    line += f"--broker-port 0 {streams}"
    with errors.open("wb") as stderr:
        command = ["bash", "-c", f"ulimit -c 0; {line}", "bash", manifest, state]
        up = subprocess.Popen(command, stdout=stdout, stderr=stderr)
    try:
        deadline = monotonic() + WITHIN_S
        while StateFolder(state).running() is None or says not in errors.read_text():
            assert up.poll() is None, errors.read_text()
            assert monotonic() < deadline
            sleep(0.05)
        sleep(0.3)  # the addresses are printed after they are published
        assert up.poll() is None
        up.send_signal(signal.SIGTERM)
        assert up.wait(WITHIN_S) == 0
        said = errors.read_text()
        assert "Traceback" not in said
        assert "Assertion" not in said
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()


# ---- inputs


@pytest.mark.parametrize(
    "command", ["trigger test --type é", "render -o -", "render --explain", "doctor"]
)
def test_a_manifest_may_come_through_a_pipe(manifest: Path, command: str) -> None:
    done = shell(f'relume {command} <(cat "$1")', manifest)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)


def test_a_named_pipe_is_read_once(manifest: Path, tmp_path: Path, capsys: Output) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(manifest.read_bytes()))
    writer.start()
    assert cli_main.run(["render", str(pipe), "-o", "-"]) == 0
    writer.join()
    assert "kind: Broker" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/dev/zero", "folder", "locked/x", "x" * 300, "loop.yaml"])
def test_what_is_no_manifest_is_named(path: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "locked").write_text("")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    file = tmp_path / path
    for command in (["trigger", "test", "--type", "x"], ["render", "-o", "-"]):
        assert cli_main.run([*command, str(file)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"relume: {file}: ")
        assert said.count("\n") == 1


@pytest.mark.parametrize("escape", [r"\uD800", r"\UFFFFFFFF"])
def test_an_escape_that_names_no_character_is_refused(
    escape: str, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f'kind: Broker\nmetadata: {{name: "{escape}"}}\n')
    assert cli_main.run(["render", str(file), "-o", "-"]) == 2
    assert "an escape names" in capsys.readouterr().err


def test_deep_json_is_named(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "deep.json"
    file.write_text('{"type": "t", "data": ' + "[" * DEEP + "]" * DEEP + "}")
    assert cli_main.run(["send", str(file)]) == 2
    assert capsys.readouterr().err == f"relume: {file}:1: the JSON is nested too deeply\n"


def test_an_argument_that_is_not_text_is_named(manifest: Path) -> None:
    done = shell("""relume trigger test "$1" --type $'\\xff'""", manifest)
    assert done.returncode == 2
    assert b"'--type'" in done.stderr
    assert b"is not UTF-8 text" in done.stderr


def test_a_file_name_need_not_be_text(manifest: Path) -> None:
    odd = os.fsdecode(os.fsencode(manifest.parent) + b"/\xff.yaml")
    Path(odd).write_bytes(manifest.read_bytes())
    for output in ("text", "json"):
        done = shell(f'relume doctor "$1" -o {output}', odd)
        assert (done.returncode, done.stderr) == (0, b"")


# ---- the environment


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without HOME and without an entry in the password database."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "RELUME_STATE", "RELUME_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("RELUME_URL", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}[0])
    yield


@pytest.mark.usefixtures("homeless")
def test_without_a_home_it_says_what_to_set(manifest: Path, capsys: Output) -> None:
    assert cli_main.run(["up", str(manifest)]) == 2
    assert "set HOME or RELUME_STATE" in capsys.readouterr().err
    assert cli_main.run(["models", "list"]) == 2
    assert "set HOME or RELUME_HOME" in capsys.readouterr().err
    assert find_plane(None) == "http://127.0.0.1:8080"


def test_a_model_store_that_cannot_be_is_named(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELUME_HOME", str(manifest))
    with pytest.raises(InvalidInput, match=f"RELUME_HOME={manifest} is not a folder"):
        default_root()
    monkeypatch.setenv("RELUME_HOME", "~nosuchuser/x")
    with pytest.raises(NoHome, match="RELUME_HOME=~nosuchuser/x"):
        default_root()


@pytest.mark.parametrize("inside", ["", "x", "logs", "lock"])
def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path, inside: str) -> None:
    state = tmp_path / "state"
    if inside in ("", "x"):
        state.write_text("")
    elif inside == "logs":
        state.mkdir()
        (state / "logs").write_text("")
    else:
        (state / "lock").mkdir(parents=True)
    folder = StateFolder(state / inside if inside == "x" else state)
    with pytest.raises(InvalidInput, match="choose another folder with --state"), folder.held():
        pass


@pytest.mark.parametrize(
    "written",
    [
        "{",
        "[1]",
        "[" * DEEP,
        '{"pid": "x", "http": "", "broker": "", "started_at": "", "version": ""}',
        '{"pid": 1, "http": 7, "broker": "", "started_at": "", "version": ""}',
        '{"pid": 99999999999999999999, "http": "", "broker": "", "started_at": "", "version": ""}',
    ],
)
def test_a_broken_plane_file_is_no_plane(tmp_path: Path, written: str) -> None:
    (tmp_path / "plane.json").write_text(written)
    assert StateFolder(tmp_path).running() is None


@pytest.mark.parametrize("text", ["abc", "", "-1", "65536", "²", "1.5", "9" * 5000])
def test_a_port_in_the_environment_is_a_number(text: str) -> None:
    with pytest.raises(InvalidInput, match="PORT="):
        environment.port("PORT", 8080, {"PORT": text})


@pytest.mark.parametrize("text", ["abc", "", "-1", "nan", "inf"])
def test_a_number_in_the_environment_can_be_used(text: str) -> None:
    with pytest.raises(InvalidInput, match="RELUME_GRACE_S="):
        environment.number("RELUME_GRACE_S", 300, {"RELUME_GRACE_S": text})


@pytest.mark.parametrize(
    "url, why",
    [
        ("http://127.0.0.1:808o", "Invalid port"),
        ("http://[::1", "write http://HOST:PORT"),
        ("http://", "it names no host"),
        ("http://127.0.0.1:0", "no port has the number 0"),
        ("http://127.0.0.1:8080/?q", "a query or a fragment"),
        (f"http://{'a' * 70}", "write http://HOST:PORT"),
    ],
)
def test_a_wrong_url_is_named_with_where_it_was_given(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert cli_main.run(["status", "--url", url]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"relume: --url {url} is not a plane's URL: ")
    assert why in said
    assert said.count("\n") == 1
    monkeypatch.setenv("RELUME_URL", url)
    assert cli_main.run(["events"]) == 2
    assert capsys.readouterr().err.startswith(f"relume: RELUME_URL={url} is not a plane's URL: ")


@pytest.mark.parametrize("columns", ["²", "9" * 5000, "abc"])
def test_a_width_that_is_no_number_is_not_used(
    columns: str, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli_main.run(["trigger", "test", str(manifest), "--type", "é"]) == 0


def test_a_gone_reader_in_a_task_group_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    error = BaseExceptionGroup("tasks", [BrokenPipeError(errno.EPIPE, "Broken pipe")])
    monkeypatch.setattr(sys, "stdout", failing_output(errno.EPIPE))
    assert cli_main._say(error) == 1
    assert capsys.readouterr().err == ""


def test_a_variable_of_another_server_does_not_stop_the_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with listen(0, "--port") as listening:
        HttpServer(Starlette(), listening)


def _unread(pipe: IO[bytes]) -> int:
    """How many bytes lie in a pipe, asked at either end of it."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("line", [["send", "-"], ["send", "--type", "t", "--data", "-"]])
def test_ctrl_c_while_reading_standard_input_exits_130(line: list[str]) -> None:
    with subprocess.Popen(
        [*COMMAND, *line],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background has it ignored, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b" ")
        process.stdin.flush()
        deadline = monotonic() + WITHIN_S
        while _unread(process.stdin):  # then it waits for more
            assert monotonic() < deadline
            sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, said.strip()) == (130, b"")
