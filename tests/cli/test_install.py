"""The set-up's decisions: which torch, what a machine lacks, what is made anew."""

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import install
import pytest
from install import Choice, Environment, asks_for_gpu, beyond_the_lock, choose, pins_of
from install_checks import CPU, CUDA, LIBRARIES, Facts, Space, missing, too_full

REPORTS = Path(__file__).parent / "pip_reports"
PINS = pins_of(install.LOCK.read_text())
INDEX = "https://cpu.example/whl"
Report = dict[str, Any]


def recorded(name: str) -> Report:
    """What pip 26.3 reported for torch 2.13.0, less the fields that nobody reads."""
    report: Report = json.loads((REPORTS / f"{name}.json").read_text())
    return report


class Pip:
    """A pip that finds the recorded builds: `own` as configured, `other` in INDEX."""

    def __init__(self, own: str | None, other: str | None = None) -> None:
        self.own, self.other, self.asked = own, other, list[list[str]]()

    def __call__(self, arguments: list[str]) -> Report | None:
        self.asked.append(arguments)
        if "--constraint" in arguments:
            return recorded("cuda_with_requirements")
        name = self.other if INDEX in arguments else self.own
        return recorded(name) if name else None


def chosen(pip: Pip, *, index: str = INDEX, answers: bool = True) -> Choice:
    choice = choose(pip, lambda _: answers, PINS, index)
    assert choice is not None
    return choice


def test_a_build_for_gpus_is_known_by_what_it_requires() -> None:
    assert asks_for_gpu(recorded("cuda"))
    assert not asks_for_gpu(recorded("cpu"))


def test_an_optional_requirement_does_not_make_a_build_one_for_gpus() -> None:
    report = recorded("cpu")
    report["install"][0]["metadata"]["requires_dist"].append('nvidia-dali; extra == "video"')
    assert not asks_for_gpu(report)


def test_a_cpu_build_that_pip_is_configured_with_is_taken_and_no_index_is_tried() -> None:
    pip = Pip(own="cpu", other="cpu")
    choice = chosen(pip)
    assert (choice.build, choice.source, choice.pins) == (CPU, None, ())
    assert pip.asked == [["--no-deps", "torch==2.13.0"]]


def test_without_one_the_cpu_build_of_the_named_index_is_taken() -> None:
    choice = chosen(Pip(own="cuda", other="cpu"))
    assert (choice.build, choice.source, choice.pins) == (CPU, INDEX, ())
    assert INDEX in choice.says


@pytest.mark.parametrize(
    ("index", "answers", "other", "why"),
    [
        (INDEX, False, "cpu", f"{INDEX} does not answer"),
        (INDEX, True, None, f"{INDEX} has none"),
        (INDEX, True, "cuda", f"{INDEX} has none"),
        ("", True, "cpu", "TORCH_CPU_INDEX is empty"),
    ],
)
def test_else_pips_own_build_comes_with_its_size_and_the_reason(
    index: str, answers: bool, other: str | None, why: str
) -> None:
    choice = chosen(Pip(own="cuda", other=other), index=index, answers=answers)
    assert (choice.build, choice.source) == (CUDA, None)
    assert why in choice.says
    assert "3.1 GB to download and 6.7 GB on disk" in choice.says
    assert "\n" not in choice.says


def test_an_index_that_does_not_answer_is_not_asked() -> None:
    pip = Pip(own="cuda", other="cpu")
    chosen(pip, answers=False)
    assert not any(INDEX in arguments for arguments in pip.asked)


def test_pips_own_build_brings_its_libraries_without_triton_and_nothing_that_the_lock_has() -> None:
    pip = Pip(own="cuda")
    brought = [pin.partition("==")[0] for pin in chosen(pip).pins]
    assert {"nvidia-cudnn-cu13", "nvidia-cublas", "cuda-toolkit"} <= set(brought)
    assert not set(brought) & {*PINS, "triton", "torchvision", "torchaudio", "torchcodec"}
    assert pip.asked[-1] == ["--constraint", str(install.LOCK), "torch==2.13.0"]


def test_of_what_is_required_the_pins_are_all_that_the_lock_does_not_have() -> None:
    report = recorded("cuda_with_requirements")
    pins = dict(PINS)
    assert "networkx==3.6.1" not in beyond_the_lock(report, pins)
    del pins["networkx"]
    assert "networkx==3.6.1" in beyond_the_lock(report, pins)


def test_a_pip_that_finds_no_torch_at_all_chooses_nothing() -> None:
    assert choose(Pip(own=None), lambda _: False, PINS, INDEX) is None


def test_the_named_index_is_enough_where_pip_itself_finds_no_torch() -> None:
    assert chosen(Pip(own=None, other="cpu")).source == INDEX


def test_names_are_read_as_the_packaging_standard_spells_them() -> None:
    assert pins_of("# made\n\nZope.Interface==8.7\ntyping_extensions==4.1\n") == {
        "zope-interface": "8.7",
        "typing-extensions": "4.1",
    }


def test_a_silent_index_costs_no_more_than_the_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not install.reaches(f"http://127.0.0.1:{silent.getsockname()[1]}/", within_s=0.2)


def test_a_folder_of_wheels_needs_no_answer() -> None:
    assert install.reaches("file:///srv/wheels")


GOOD = Facts(
    command="/usr/bin/python3",
    python=(3, 12),
    standard_python=True,
    system="Linux",
    machine="x86_64",
    libc=("glibc", "2.31"),
    cpu_flags=frozenset({"sse2", "avx2"}),
    has_venv=True,
    libraries=frozenset(LIBRARIES),
)


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_a_machine_that_has_everything_lacks_nothing(python: tuple[int, int]) -> None:
    assert missing(GOOD._replace(python=python)) == []


@pytest.mark.parametrize(
    ("facts", "what", "mend"),
    [
        (GOOD._replace(python=(3, 10)), "Python 3.11 to 3.13", "make PYTHON=python3.12"),
        (GOOD._replace(python=(3, 14)), "/usr/bin/python3 is 3.14", "make PYTHON=python3.12"),
        (GOOD._replace(standard_python=False), "CPython", "make PYTHON=python3.12"),
        (GOOD._replace(has_venv=False), "ensurepip", "apt install python3.12-venv"),
        (GOOD._replace(libc=("glibc", "2.28")), "glibc 2.28", "Debian 11"),
        (GOOD._replace(libc=("", "")), "musl", "container"),
        (GOOD._replace(cpu_flags=frozenset({"sse2"})), "AVX2", "another machine"),
        (GOOD._replace(libraries=frozenset({"libstdc++.so.6"})), "libnuma.so.1", "libnuma1"),
        (GOOD._replace(system="Darwin", machine="arm64"), "macOS", "virtual machine"),
        (GOOD._replace(machine="aarch64"), "no wheels for Arm", "x86-64"),
        (GOOD._replace(system="Windows", machine="AMD64"), "Windows", "virtual machine"),
    ],
)
def test_what_is_missing_is_one_line_that_says_how_to_mend_it(
    facts: Facts, what: str, mend: str
) -> None:
    (line,) = missing(facts)
    assert what in line
    assert mend in line
    assert "\n" not in line


def test_everything_that_is_missing_is_said_at_once() -> None:
    assert len(missing(GOOD._replace(python=(3, 14), has_venv=False, libc=("glibc", "2.17")))) == 3


def test_a_processor_whose_features_the_system_does_not_list_is_tried() -> None:
    assert missing(GOOD._replace(cpu_flags=None)) == []


GB = 10**9


@pytest.mark.parametrize(
    ("free", "cache", "folder"),
    [
        (5 * GB, None, None),
        (4 * GB, None, ".venv"),
        (5 * GB, Space("cache", 2, 1 * GB), None),
        (5 * GB, Space("cache", 2, GB // 2), "cache"),
        (4 * GB + GB // 2, Space("cache", 1, 4 * GB + GB // 2), ".venv"),
    ],
)
def test_a_disk_is_too_full_for_the_wheels_and_what_is_unpacked_from_them(
    free: int, cache: Space | None, folder: str | None
) -> None:
    line = too_full(CPU, Space(".venv", 1, free), cache)
    assert (line is None) if folder is None else (line is not None and line.startswith(folder))


def test_the_build_with_cuda_needs_more_disk_and_the_line_says_how_much_is_lacking() -> None:
    line = too_full(CUDA, Space(".venv", 1, 5 * GB), None)
    assert line is not None
    assert line.startswith(".venv needs 9.8 GB of free disk and has 5.0; free 4.8 GB more")


class Recorded(Environment):
    """An environment whose processes are only written down."""

    def __init__(self, folder: Path, report: Callable[[list[str]], Report | None]) -> None:
        super().__init__(folder / ".venv" / ".installed", lock=-1)
        self.ran: list[list[str]] = []
        self.loads = True
        self.report = report  # type: ignore[method-assign]

    def _run(self, command: list[str], stderr: int | None = None) -> None:
        self.ran.append(command)
        self.venv.mkdir(exist_ok=True)

    def cache(self) -> Space | None:
        return None

    def torch_loads(self) -> bool:
        return self.loads

    def pretend_python(self, says: str) -> None:
        """Stand in for the Python of an environment that is there."""
        python = self.venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {says}\n")
        python.chmod(0o755)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "too_full", lambda *_: None)


THIS = f"{sys.version_info[0]} {sys.version_info[1]}"


@pytest.mark.usefixtures("room")
def test_the_stamp_is_written_when_all_is_installed_and_torch_loads(tmp_path: Path) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    assert install.install(environment, "") == 0
    assert environment.stamp.exists()
    assert not (environment.venv / "tmp").exists()
    assert any("-r" in command for command in environment.ran)
    assert [Path(word).name for word in environment.ran[-1][4:]] == list(install.SOURCES)
    assert environment.ran[-1][2] == "compileall"


@pytest.mark.usefixtures("room")
def test_a_source_tree_that_cannot_be_written_to_is_installed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    run = environment._run

    def fail_to_compile(command: list[str], stderr: int | None = None) -> None:
        run(command, stderr)
        if "compileall" in command:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment, "_run", fail_to_compile)
    assert install.install(environment, "") == 0
    assert environment.stamp.exists()


def test_all_folders_of_our_packages_are_compiled() -> None:
    project = tomllib.loads((install.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["hatch"]["build"]["targets"]["wheel"]["dev-mode-dirs"]
    assert set(install.SOURCES) == set(folders)


@pytest.mark.usefixtures("room")
def test_a_torch_that_does_not_load_leaves_no_stamp_and_names_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    environment.loads = False
    assert install.install(environment, "") == 1
    assert not environment.stamp.exists()
    assert "TORCH_CPU_INDEX" in capsys.readouterr().err


@pytest.mark.usefixtures("room")
def test_an_environment_that_broke_off_half_way_is_made_anew(tmp_path: Path) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    environment.pretend_python(f"{THIS} 2.13.0")
    assert install.install(environment, "") == 0
    assert not (environment.venv / "bin").exists()
    assert environment.ran[0][1:3] == ["-m", "venv"]


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("says", ["3 9 2.13.0", f"{THIS} 2.12.0", ""])
def test_one_of_another_python_or_torch_is_made_anew(tmp_path: Path, says: str) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    environment.pretend_python(says)
    environment.stamp.touch()
    assert install.install(environment, "") == 0
    assert environment.ran[0][1:3] == ["-m", "venv"]


def test_a_whole_one_is_brought_to_a_changed_lock_and_keeps_its_torch(tmp_path: Path) -> None:
    pip = Pip(own="cuda")
    environment = Recorded(tmp_path, pip)
    environment.pretend_python(f"{THIS} 2.13.0")
    environment.stamp.touch()
    assert install.install(environment, INDEX) == 0
    assert pip.asked == []
    assert environment.ran[0][3:6] == ["install", "--no-deps", "-r"]
    assert environment.stamp.exists()


def test_a_whole_one_whose_update_breaks_off_is_no_longer_taken_for_whole(tmp_path: Path) -> None:
    environment = Recorded(tmp_path, Pip(own="cpu"))
    environment.pretend_python(f"{THIS} 2.13.0")
    environment.stamp.touch()

    def killed(command: list[str], stderr: int | None = None) -> None:
        raise subprocess.CalledProcessError(-9, command)

    environment._run = killed  # type: ignore[method-assign]
    with pytest.raises(subprocess.CalledProcessError):
        install.install(environment, "")
    assert not environment.stamp.exists()


def test_a_full_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Space, "of", lambda folder: Space(str(folder), 1, 10**9))
    environment = Recorded(tmp_path, Pip(own="cpu"))
    assert install.install(environment, "") == 2
    assert environment.ran == []
    assert "needs 4.2 GB of free disk and has 1.0" in capsys.readouterr().err


def test_a_disk_with_room_for_the_cpu_build_alone_is_refused_before_torch_with_cuda_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Space, "of", lambda folder: Space(str(folder), 1, 5 * 10**9))
    environment = Recorded(tmp_path, Pip(own="cuda"))
    assert install.install(environment, "") == 2
    assert not any("-r" in command for command in environment.ran)
    assert "needs 9.8 GB" in capsys.readouterr().err


def test_a_machine_that_lacks_something_ends_with_2_and_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "facts_of_this_machine", lambda: GOOD._replace(system="Darwin"))
    monkeypatch.setattr("sys.argv", ["install.py", str(tmp_path / ".venv" / ".installed")])
    assert install.main() == 2
    assert capsys.readouterr().err.startswith("Relume cannot be set up: vLLM has no CPU build")
    assert list(tmp_path.iterdir()) == []


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    first, waited = install.take_lock(tmp_path, print)
    assert not waited
    said: list[str] = []

    def end_the_first(line: str) -> None:
        said.append(line)
        os.close(first)

    second, waited = install.take_lock(tmp_path, end_the_first)
    os.close(second)
    assert waited
    assert said == [f"Waiting for another set-up in {tmp_path}."]
