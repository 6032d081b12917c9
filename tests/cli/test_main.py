"""The group itself: help, versions, and how errors become words and exit codes."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest

from relume.base.errors import InvalidManifest, RelumeError
from relume.cli import main as cli_main

HEAVY = {"vllm", "torch", "kserve", "kubernetes", "transformers", "fastapi", "nats", "httpx"}
COMMANDS = [name for commands in cli_main.SECTIONS.values() for name in commands]
Fail = Callable[[BaseException], int]


def test_help_lists_every_command_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_main.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"  relume {name}" in shown


def cpu_of_children() -> float:
    """Seconds of the processor that finished child processes have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_needs_no_heavy_module_and_little_time() -> None:
    program = (
        "import sys; from relume.cli.main import run; run(['--help']); "
        f"print('loaded', *(set({sorted(HEAVY)}) & sys.modules.keys()))"
    )
    took = []
    for _ in range(3):
        before = cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        took.append(cpu_of_children() - before)
        assert done.stdout.splitlines()[-1] == "loaded"
    # Under 0.3 s of the processor, for which others do not count; twice that for a slower one.
    assert min(took) < 0.6


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("relume 0.")


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Run a command that raises the given error."""

    def fail_with(error: BaseException) -> int:
        @click.command()
        def command() -> None:
            raise error

        module = ModuleType("relume.cli.machine.broken")
        module.__dict__["command"] = command
        monkeypatch.setitem(sys.modules, "relume.cli.machine.broken", module)
        monkeypatch.setitem(cli_main.SECTIONS["Run"], "broken", "Breaks.")
        return cli_main.run(["broken"])

    return fail_with


def test_a_deliberate_error_is_one_line_and_its_exit_code(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(RelumeError("the model sleeps")) == 1
    assert capsys.readouterr().err == "relume: the model sleeps\n"


def test_a_bad_manifest_names_file_line_and_field_and_exits_2(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    error = InvalidManifest("is not a number", file=Path("a.yaml"), line=7, field="spec.x")
    assert fail(error) == 2
    assert capsys.readouterr().err == "relume: a.yaml:7: spec.x: is not a number\n"


def test_an_error_inside_a_task_group_is_told_like_any_other(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = ExceptionGroup("inner", [ValueError("a bug beside it"), RelumeError("it broke")])
    assert fail(ExceptionGroup("outer", [inner])) == 1
    assert capsys.readouterr().err == "relume: it broke\n"


def test_what_a_subscriber_said_cannot_control_the_terminal(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(RelumeError("e-1 is a dead letter: rejected: \x1b[31mred\r\n  ^")) == 1
    said = capsys.readouterr().err
    assert said == "relume: e-1 is a dead letter: rejected: \ufffd[31mred\ufffd\n  ^\n"


def test_an_operating_system_error_names_the_path(
    fail: Fail, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fail(PermissionError(13, "Permission denied", "/state")) == 1
    assert capsys.readouterr().err == "relume: Permission denied: /state\n"


def test_a_debugger_gets_the_traceback(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELUME_DEBUG", "1")
    with pytest.raises(RelumeError):
        fail(RelumeError("it broke"))


def test_a_bug_keeps_its_traceback(fail: Fail) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())


def test_ctrl_c_exits_130(fail: Fail, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", [["nonsense"], ["send", "--nonsense"], ["events", "--replay", "x"]]
)
def test_a_wrong_command_line_exits_2_and_says_how_to_get_help(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli_main.run(line) == 2
    assert "--help" in capsys.readouterr().err


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "relume.cli.main", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
