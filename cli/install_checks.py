"""What a machine needs before `install.py` downloads anything; standard library, Python 3.6 on.

All wheels of requirements.lock are there for Linux on x86-64 with glibc 2.31 and CPython 3.11 to
3.13, so no compiler is needed. For Arm, intel-openmp 2024.2.1, atheris 3.0.0 and psutil 5.9.8 have
none.
"""

import ctypes
import importlib.util
import platform
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

PYTHONS = ((3, 11), (3, 13))
GLIBC = (2, 31)  # llguidance 1.7.6 asks for it, all other wheels for less.
LIBRARIES = {"libnuma.so.1": "libnuma1", "libstdc++.so.6": "libstdc++6"}  # Debian's packages
ELSEWHERE = "use Linux on x86-64, in a virtual machine or a container where need be"


class Build(NamedTuple):
    """What a set-up takes with one build of torch, in bytes: measured, with all of the lock."""

    name: str
    wheels: int
    unpacked: int


CPU = Build("CPU", 800_000_000, 3_400_000_000)
CUDA = Build("CUDA", 3_100_000_000, 6_700_000_000)


class Space(NamedTuple):
    """A folder's disk, and the bytes that are free there."""

    folder: str
    device: int
    free: int

    @classmethod
    def of(cls, folder: Path) -> "Space":
        """Look at `folder`, or where it does not exist yet at the nearest folder above it."""
        there = folder.resolve()
        while not there.exists():
            there = there.parent
        return cls(str(folder), there.stat().st_dev, shutil.disk_usage(str(there)).free)


class Facts(NamedTuple):
    """What `missing` looks at, so that tests can say what machine it is."""

    command: str
    python: "tuple[int, int]"
    standard_python: bool  # CPython with its GIL
    system: str
    machine: str
    libc: "tuple[str, str]"
    cpu_flags: "frozenset[str] | None"
    has_venv: bool
    libraries: "frozenset[str]"


def facts_of_this_machine() -> Facts:
    """Look at the Python that runs this, the system, the processor and the libraries."""
    no_gil = sysconfig.get_config_var("Py_GIL_DISABLED")
    return Facts(
        command=sys.executable,
        python=(sys.version_info[0], sys.version_info[1]),
        standard_python=platform.python_implementation() == "CPython" and not no_gil,
        system=platform.system(),
        machine=platform.machine(),
        libc=platform.libc_ver(),
        cpu_flags=_cpu_flags(Path("/proc/cpuinfo")),
        # Debian and Ubuntu have ensurepip in a package of its own.
        has_venv=all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        libraries=frozenset(name for name in LIBRARIES if _loads(name)),
    )


def missing(facts: Facts) -> "list[str]":
    """Return a line for each thing that is missing, which ends with how to mend it."""
    if facts.system != "Linux" or facts.machine not in ("x86_64", "amd64"):
        return [_platform(facts)]
    lines = []
    found = ".".join(str(part) for part in facts.python)
    if not PYTHONS[0] <= facts.python <= PYTHONS[1]:
        lines.append(
            f"it needs Python 3.11 to 3.13 and {facts.command} is {found}; "
            "install one of them and run make PYTHON=python3.12 with its name"
        )
    elif not facts.standard_python:
        lines.append(
            f"{facts.command} is not CPython with its global interpreter lock, the only Python "
            "that vLLM has builds for; run make PYTHON=python3.12 with the name of one that is"
        )
    if not facts.has_venv:
        lines.append(
            f"{facts.command} has no venv or ensurepip; on Debian and Ubuntu run "
            f"apt install python{found}-venv"
        )
    name, version = facts.libc
    if name != "glibc" or _numbers(version) < GLIBC:
        lines.append(
            f"vLLM's and PyTorch's builds need glibc 2.31 or later and this system has "
            f"{' '.join(facts.libc).strip() or 'another C library (musl?)'}; use Debian 11, "
            "Ubuntu 20.04, Fedora or a later one, or a container of it"
        )
    if facts.cpu_flags is not None and "avx2" not in facts.cpu_flags:
        lines.append(
            "vLLM's CPU build needs a processor with AVX2, and this one has none; use another "
            "machine, or have the virtual machine pass on the host's processor"
        )
    lines.extend(
        f"vLLM loads {name}, which is not there; on Debian and Ubuntu run apt install {package}, "
        f"elsewhere install the package that has it"
        for name, package in LIBRARIES.items()
        if name not in facts.libraries
    )
    return lines


def too_full(build: Build, venv: Space, cache: "Space | None") -> "str | None":
    """Say which disk is too full for a build of torch, if one is.

    pip has each wheel in its cache and beside the environment until all are unpacked.
    """
    needed = build.wheels + build.unpacked
    if cache is not None and cache.device == venv.device:
        needed += build.wheels
    elif cache is not None and cache.free < build.wheels:
        return _full(cache, build.wheels, "or set PIP_CACHE_DIR to a folder on another disk")
    if venv.free < needed:
        return _full(venv, needed, "or move this folder to another disk")
    return None


def _full(space: Space, needed: int, otherwise: str) -> str:
    return (
        f"{space.folder} needs {needed / 1e9:.1f} GB of free disk and has {space.free / 1e9:.1f}; "
        f"free {(needed - space.free) / 1e9:.1f} GB more, {otherwise}"
    )


def _platform(facts: Facts) -> str:
    if facts.system == "Darwin":
        return f"vLLM has no CPU build for macOS; {ELSEWHERE}"
    if facts.system == "Linux" and facts.machine in ("aarch64", "arm64"):
        lacking = "intel-openmp 2024.2.1, atheris 3.0.0 and psutil 5.9.8"
        return f"the locked set has no wheels for Arm of {lacking}; {ELSEWHERE}"
    return f"vLLM's CPU build for {facts.system} {facts.machine} is not supported; {ELSEWHERE}"


def _numbers(version: str) -> "tuple[int, ...]":
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _cpu_flags(cpuinfo: Path) -> "frozenset[str] | None":
    """The processor's features, or None where the system does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2].split() for line in lines if line.startswith("flags")]
    return frozenset(flags[0]) if flags else None
