"""Environments are made once, are whole or not there, and say why they could not be made."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from relume.runtimes.function import environments as module
from relume.runtimes.function.environments import EnvironmentNotMade, Environments, Wanted, wanted

WANTED = Wanted("f", ("x",), "key")


class Tools:
    """Stands in for venv and pip: makes what they would, or fails as it is told to."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.go_on = asyncio.Event()
        self.fails = False

    async def run(self, *command: str) -> None:
        self.commands.append(command)
        if "venv" in command:
            (Path(command[-1]) / "bin").mkdir(parents=True)
            (Path(command[-1]) / "bin" / "python").touch()
            return
        await self.go_on.wait()
        if self.fails:
            raise EnvironmentNotMade("pip failed: no x")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    made = Tools()
    made.go_on.set()
    monkeypatch.setattr(module, "_run", made.run)
    return made


async def test_an_environment_is_made_once_for_all_who_ask(tools: Tools, tmp_path: Path) -> None:
    said: list[str] = []
    async with Environments(tmp_path, said.append) as environments:
        first, second = await asyncio.gather(*(environments.python(WANTED) for _ in range(2)))
        assert first == second == tmp_path / "key" / "bin" / "python"
    async with Environments(tmp_path, said.append) as environments:
        assert await environments.python(WANTED) == first
    assert [("venv" in c, "x" in c) for c in tools.commands] == [(True, False), (False, True)]
    assert said == [
        "f: making its environment, 1 requirements",
        "f: its environment is ready after 0 s",
    ]


async def test_it_is_not_there_before_it_is_whole(tools: Tools, tmp_path: Path) -> None:
    tools.go_on.clear()
    async with Environments(tmp_path) as environments:
        asking = asyncio.create_task(environments.python(WANTED))
        while len(tools.commands) < 2:
            await asyncio.sleep(0.01)
        assert not (tmp_path / "key").exists()
        asking.cancel()  # who asked goes away; the making goes on
        tools.go_on.set()
        await environments.python(WANTED)
    assert len(tools.commands) == 2


async def test_one_that_was_broken_off_is_taken_up_again(tools: Tools, tmp_path: Path) -> None:
    tools.go_on.clear()
    async with Environments(tmp_path) as environments:
        asking = asyncio.create_task(environments.python(WANTED))
        while len(tools.commands) < 2:
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await asking
    left = tmp_path / ".partial" / "key" / "left-by-a-killed-run"
    left.mkdir(parents=True)
    tools.go_on.set()
    async with Environments(tmp_path) as environments:
        await environments.python(WANTED)
    assert (tmp_path / "key" / "bin" / "python").exists()
    assert not left.exists()
    assert not (tmp_path / "key" / "left-by-a-killed-run").exists()


async def test_a_failure_is_told_again_without_another_run_and_then_tried_again(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools.fails = True
    async with Environments(tmp_path) as environments:
        for _ in range(2):
            with pytest.raises(EnvironmentNotMade, match="pip failed: no x"):
                await environments.python(WANTED)
        assert len(tools.commands) == 2
        monkeypatch.setattr(module, "_FAILED_FOR_S", 0.0)
        tools.fails = False
        await environments.python(WANTED)
    assert list((tmp_path / ".partial").glob("key/*")) == []


async def test_two_planes_make_it_one_after_the_other(tools: Tools, tmp_path: Path) -> None:
    async with Environments(tmp_path) as one, Environments(tmp_path) as other:
        await asyncio.gather(one.python(WANTED), other.python(WANTED))
    assert len(tools.commands) == 2


async def test_the_last_lines_of_a_tool_that_fails_are_the_message() -> None:
    script = "import sys; print('WARNING: a'); print('one'); print('two'); sys.exit(3)"
    with pytest.raises(EnvironmentNotMade, match=r"pip failed: one \| two$"):
        await module._run("python3", "-c", script)


async def test_a_tool_is_ended_with_whoever_waits_for_it() -> None:
    running = asyncio.create_task(module._run("sleep", "3456"))
    started: list[psutil.Process] = []
    while not started:
        await asyncio.sleep(0.01)
        started = [p for p in psutil.Process().children() if "3456" in p.cmdline()]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not started[0].is_running()


async def test_a_tool_does_not_outlive_a_plane_that_is_killed(tmp_path: Path) -> None:
    script = "import asyncio; from relume.runtimes.function.environments import _run; "
    script += "asyncio.run(_run('sleep', '4567'))"
    plane = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    started: list[psutil.Process] = []
    while not started:
        await asyncio.sleep(0.05)
        children = psutil.Process(plane.pid).children()
        started = [p for p in children if "4567" in p.cmdline()]
    os.kill(plane.pid, signal.SIGKILL)
    await plane.wait()
    async with asyncio.timeout(60):
        while started[0].is_running() and started[0].status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project", "pyproject.toml: "),
        ("[tool]", "there is no [project]"),
        ("[project]\ndynamic = ['dependencies']", "is dynamic"),
        ("[project]\ndependencies = [1]", "must be a list of strings"),
        ("[project]\ndependencies = 'x'", "must be a list of strings"),
        ("project = 1", "pyproject.toml: "),
    ],
)
def test_a_pyproject_that_names_no_requirements_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(EnvironmentNotMade) as refused:
        wanted("f", tmp_path)
    assert message in str(refused.value)


def test_another_pyproject_is_another_environment(tmp_path: Path) -> None:
    keys = set()
    for requirements in ("[]", "['x']", "['x']"):
        (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {requirements}\n")
        keys.add(wanted("f", tmp_path).key)
    assert len(keys) == 2
