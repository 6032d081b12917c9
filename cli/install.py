"""Make the virtual environment of requirements.lock: `python3 cli/install.py .venv/.installed`.

The Makefile runs this program with the system's Python, so it uses the standard library alone, and
Python 3.6 can still read it and be told that it is too old. Exit status: 0 when the environment is
whole, 2 when this machine lacks something, 1 when the installation failed.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from install_checks import CPU, CUDA, Build, Space, facts_of_this_machine, missing, too_full

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
#: The folders of our packages.
SOURCES = ("config", "eventing", "serving", "runtimes", "cluster", "cli")
PROBE_S = 5.0
# What torch's CUDA builds ask for and torch loads without. vLLM turns triton off on a CPU, and it
# takes 0.7 GB.
NEEDLESS = ("triton",)
GPU_LIBRARIES = ("nvidia-", "cuda-", "triton", "pytorch-triton", "intel-", "dpcpp-")
TORCH_FAILS = """\
torch does not load (its own words are above). Remove {venv} and run make again. If it fails again,
point pip at the CPU build of torch {torch} (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL or make
TORCH_CPU_INDEX=URL), remove {venv} and run make once more."""


class Choice(NamedTuple):
    """Which torch to install: from the index `source`, or pip's own; `pins` go beside the lock."""

    build: Build
    source: "str | None"
    pins: "tuple[str, ...]"
    says: str


def pins_of(lock: str) -> "dict[str, str]":
    """Return the version of each distribution in the text of requirements.lock, by its name."""
    lines = (line.strip() for line in lock.splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {_name(name): version for name, version in pairs}


def asks_for_gpu(report: "dict[str, Any]") -> bool:
    """Whether the torch of a pip report is a build for GPUs: those require a vendor's libraries.

    The name of the file does not tell, because an index may hold a CUDA build under the plain
    version.
    """
    metadata = next(m for m in _metadata(report) if _name(m["name"]) == "torch")
    needed = [line for line in metadata.get("requires_dist", []) if "extra ==" not in line]
    return any(_name(line).startswith(GPU_LIBRARIES) for line in needed)


def beyond_the_lock(report: "dict[str, Any]", pins: "dict[str, str]") -> "tuple[str, ...]":
    """Return `name==version` of what a pip report would install that the lock does not have."""
    found = {_name(m["name"]): m["version"] for m in _metadata(report)}
    return tuple(f"{n}=={v}" for n, v in sorted(found.items()) if n not in {*pins, *NEEDLESS})


def choose(
    ask: "Callable[[list[str]], dict[str, Any] | None]",
    reach: "Callable[[str], bool]",
    pins: "dict[str, str]",
    cpu_index: str,
) -> "Choice | None":
    """Choose the CPU build of the locked torch where one can be had, else pip's own with CUDA.

    `ask` gives pip's report on an installation that it would do, or None where it could not;
    `reach` says whether an index answers. None means that pip finds no torch at all.
    """
    torch = f"torch=={pins['torch']}"
    report = ask(["--no-deps", torch])
    if report is not None and not asks_for_gpu(report):
        return Choice(CPU, None, (), f"{torch}: the CPU build that pip is configured with.")
    why = "no other index is named (TORCH_CPU_INDEX is empty)"
    if cpu_index:
        why = f"{cpu_index} does not answer"
        if reach(cpu_index):
            why = f"{cpu_index} has none"
            other = ask(["--no-deps", "--index-url", cpu_index, torch])
            if other is not None and not asks_for_gpu(other):
                return Choice(CPU, cpu_index, (), f"{torch}: the CPU build from {cpu_index}.")
    closure = report and ask(["--constraint", str(LOCK), torch])
    if not closure:
        return None
    says = (
        f"{torch}: the build for NVIDIA GPUs, which runs on the CPU too, because pip finds no CPU "
        f"build and {why}. With its libraries it makes the set-up {_gb(CUDA.wheels)} to download "
        f"and {_gb(CUDA.unpacked)} on disk, instead of {_gb(CPU.wheels)} and {_gb(CPU.unpacked)}."
    )
    return Choice(CUDA, None, beyond_the_lock(closure, pins), says)


def reaches(index: str, within_s: float = PROBE_S) -> bool:
    """Whether something answers at an index within some seconds, with whatever status."""
    if not index.startswith(("http://", "https://")):
        return True
    answered: list[bool] = []

    def knock() -> None:
        try:
            request = urllib.request.Request(index, method="HEAD")
            urllib.request.urlopen(request, timeout=within_s).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, HTTPException) as error:
            # A certificate that only pip is configured to trust: something did answer.
            if "CERTIFICATE" not in str(error):
                return
        answered.append(True)

    # In a thread, because the timeout holds for each address of a host and not for all together.
    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(within_s)
    return bool(answered)


class Environment:
    """The virtual environment in the stamp's folder. `lock` is the descriptor of the held lock.

    `pip_said` is the last line of pip's latest refusal to report.
    """

    def __init__(self, stamp: Path, lock: int) -> None:
        self.stamp, self.venv, self._lock = stamp, stamp.parent, lock
        # pip unpacks here: a /tmp in memory may be too small, and nothing is left behind there.
        self._temporary = self.venv / "tmp"
        self.pip_said = ""

    def is_whole(self, pins: "dict[str, str]") -> bool:
        """Whether a finished environment of this Python, with the locked torch, is there."""
        says = "import sys; from importlib.metadata import version"
        says += "; print(*sys.version_info[:2], version('torch').partition('+')[0])"
        try:
            done = subprocess.run([self._python(), "-c", says], capture_output=True, text=True)
        except OSError:
            return False
        wanted = f"{sys.version_info[0]} {sys.version_info[1]} {pins['torch']}"
        return self.stamp.exists() and done.stdout.strip() == wanted

    def remove(self) -> None:
        if self.venv.exists():
            shutil.rmtree(self.venv)

    def make(self) -> None:
        self._run([sys.executable, "-m", "venv", str(self.venv)])
        self._temporary.mkdir()

    def pip(self, *arguments: str) -> None:
        self._run([self._python(), "-m", "pip", "install", *arguments])

    def report(self, arguments: "list[str]") -> "dict[str, Any] | None":
        """Return what pip would install, from an empty environment; None where pip cannot."""
        file = self._temporary / "report.json"
        flags = ["--quiet", "--dry-run", "--ignore-installed", "--report", str(file)]
        command = [self._python(), "-m", "pip", "install", *flags, *arguments]
        try:
            self._run(command, stderr=subprocess.PIPE)
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()
            self.pip_said = said.rpartition("\n")[2]
            return None
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def cache(self) -> "Space | None":
        """The disk of pip's cache, or None where pip keeps none."""
        command = [self._python(), "-m", "pip", "cache", "dir"]
        done = subprocess.run(command, capture_output=True, text=True)
        return Space.of(Path(done.stdout.strip())) if done.returncode == 0 else None

    def compile(self) -> None:
        """Compile our modules, as pip does those that it installs: a quarter of the first start.

        Where the folders cannot be written to, each start compiles for itself.
        """
        folders = [str(ROOT / name) for name in SOURCES]
        with suppress(subprocess.CalledProcessError):
            self._run([self._python(), "-m", "compileall", "-q", *folders])

    def torch_loads(self) -> bool:
        return subprocess.run([self._python(), "-c", "import torch"]).returncode == 0

    def finish(self) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)
        self.stamp.touch()

    def _python(self) -> str:
        return str(self.venv / "bin" / "python")

    def _run(self, command: "list[str]", stderr: "int | None" = None) -> None:
        environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if self._temporary.exists():
            environ["TMPDIR"] = str(self._temporary.resolve())
        # A child holds the lock too: if only this program is killed, the next one waits for pip.
        subprocess.run(command, check=True, env=environ, stderr=stderr, pass_fds=(self._lock,))


def install(environment: Environment, cpu_index: str) -> int:
    """Bring the environment to what the lock says, and return the exit status."""
    pins = pins_of(LOCK.read_text(encoding="utf-8"))
    extra: tuple[str, ...] = ()
    if environment.is_whole(pins):
        environment.stamp.unlink()
    else:
        # What broke off half-way has no stamp. pip's cache has what was already downloaded.
        environment.remove()
        full = too_full(CPU, Space.of(environment.venv), None)
        if full:
            return _refuse([full])
        print(f"Making {environment.venv} with Python {sys.version.split()[0]}.", flush=True)
        environment.make()
        environment.pip("--quiet", "--upgrade", "pip>=25")
        choice = choose(environment.report, reaches, pins, cpu_index)
        if choice is None:
            return _refuse(
                [f"pip finds no torch {pins['torch']}; pip said: {environment.pip_said}"]
            )
        print(choice.says, flush=True)
        full = too_full(choice.build, Space.of(environment.venv), environment.cache())
        if full:
            return _refuse([full])
        if choice.source:
            environment.pip("--no-deps", "--index-url", choice.source, f"torch=={pins['torch']}")
        extra = choice.pins
    # --no-deps: a resolver would bring torchvision, torchaudio and torchcodec, whose CUDA builds
    # break vLLM on a CPU.
    environment.pip("--no-deps", "-r", str(LOCK), *extra)
    environment.pip("--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    environment.compile()
    if not environment.torch_loads():
        print(TORCH_FAILS.format(venv=environment.venv, torch=pins["torch"]), file=sys.stderr)
        return 1
    environment.finish()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("stamp", type=Path, help="written last; its folder is the environment")
    parser.add_argument("--torch-cpu-index", default="", help="an index with torch's CPU builds")
    arguments = parser.parse_args()
    problems = missing(facts_of_this_machine())
    if problems:
        return _refuse(problems)
    stamp: Path = arguments.stamp
    # subprocess.run ends pip when an exception passes through it; the signal alone would not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        lock, waited = take_lock(ROOT, print)
        if waited and is_current(stamp):
            return 0
        return install(Environment(stamp, lock), arguments.torch_cpu_index)
    except subprocess.CalledProcessError as error:
        print(f"The set-up stopped: {error}. make takes it up again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def is_current(stamp: Path) -> bool:
    """Whether the stamp is as new as what make compares it with."""
    sources = (LOCK, ROOT / "pyproject.toml")
    newest = max(source.stat().st_mtime for source in sources)
    return stamp.exists() and stamp.stat().st_mtime >= newest


def take_lock(folder: Path, say: "Callable[[str], None]") -> "tuple[int, bool]":
    """Return the lock's descriptor, and whether another set-up had to be waited for.

    The folder itself is locked, so that no file is left behind.
    """
    import fcntl  # Windows has none, and was refused before

    lock = os.open(str(folder), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say(f"Waiting for another set-up in {folder}.")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock, True
    return lock, False


def _metadata(report: "dict[str, Any]") -> "list[dict[str, Any]]":
    return [item["metadata"] for item in report["install"]]


def _name(requirement: str) -> str:
    """The normalized name at the start of a requirement, as the packaging standard spells it."""
    for end in "[<>=!~; (":
        requirement = requirement.partition(end)[0]
    return requirement.lower().replace("_", "-").replace(".", "-")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _refuse(problems: "list[str]") -> int:
    for problem in problems:
        print(f"Relume cannot be set up: {problem}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
