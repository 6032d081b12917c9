"""Virtual environments of functions: made once, from what a pyproject.toml asks for.

A folder of the store is one environment. Its name is a hash of what determines it: the Python that
makes it, func-python's range of versions and the pyproject.toml. It is made under another name and
renamed when pip is done, so that a folder with the right name is always whole. A run that was
broken off leaves a half-made folder, which the next one removes.
"""

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from relume.base.errors import RelumeError
from relume.base.parent import die_with_parent

#: The server that runs a function (knative/func's scaffolding asks for it too).
FUNC_PYTHON = "func-python>=0.8,<1"
_LAST_LINES = 6
_LOCK_EVERY_S = 0.2
_AT_ONCE = 2  # pip unpacks with all of a core
#: How long a failure counts before the next start of the function tries again.
_FAILED_FOR_S = 30.0
_PARTIAL = ".partial"


class EnvironmentNotMade(RelumeError):
    """The environment of a function could not be made; the message ends with pip's last lines."""

    reason = "environment-not-made"
    retryable = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What determines an environment; `name` is the function's, for whoever watches."""

    name: str
    requirements: tuple[str, ...]
    key: str


def wanted(name: str, folder: Path) -> Wanted:
    """What the pyproject.toml in `folder` asks for. Raises EnvironmentNotMade where it is wrong."""
    file = folder / "pyproject.toml"
    try:
        content = file.read_bytes()
        project = tomllib.loads(content.decode())["project"]
        requirements = project.get("dependencies", [])
        if "dependencies" in project.get("dynamic", []):
            raise ValueError("project.dependencies is dynamic: write the list")
        listed = isinstance(requirements, list)
        if not listed or not all(isinstance(item, str) for item in requirements):
            raise ValueError("project.dependencies must be a list of strings")
    except OSError as error:
        raise EnvironmentNotMade(f"{file}: {error.strerror}") from None
    except KeyError as error:
        raise EnvironmentNotMade(f"{file}: there is no [{error.args[0]}]") from None
    except (ValueError, AttributeError, TypeError) as error:
        raise EnvironmentNotMade(f"{file}: {error}") from None
    python = [sys.implementation.cache_tag, platform.python_version(), platform.machine()]
    facts = json.dumps([*python, sys.base_prefix, FUNC_PYTHON, content.decode()])
    key = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return Wanted(name, (FUNC_PYTHON, *requirements), key)


Progress = Callable[[str], None]


class Environments:
    """The environments under `root`. Any number of planes may use it at once.

    `async with` ends what is still being made when the block ends.
    """

    def __init__(self, root: Path, progress: Progress = lambda line: None) -> None:
        self.root = root
        self._progress = progress
        self._making: dict[str, asyncio.Task[Path]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._failed: dict[str, tuple[float, EnvironmentNotMade]] = {}

    async def __aenter__(self) -> "Environments":
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def python(self, asked: Wanted) -> Path:
        """The interpreter of the environment, which is made if it is not there.

        Cancelled, the making goes on, for whoever asks next. Raises EnvironmentNotMade, and the
        same one for some seconds, so that retries of a Trigger do not each run pip.
        """
        python = _interpreter(self.root / asked.key)
        if python.exists():
            return python
        failed_at, error = self._failed.get(asked.key, (-math.inf, None))
        if error is not None and time.monotonic() - failed_at < _FAILED_FOR_S:
            raise error
        task = self._making.get(asked.key)
        if task is None or task.done():
            task = asyncio.create_task(self._make(asked), name=f"environment of {asked.name}")
            # Nobody may be waiting for it any more when it fails.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._making[asked.key] = task
        return await asyncio.shield(task)

    async def _make(self, asked: Wanted) -> Path:
        folder = self.root / asked.key
        partial = self.root / _PARTIAL / asked.key
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            async with self._turns, _locked(partial.with_suffix(".lock")):
                if _interpreter(folder).exists():  # another plane was quicker
                    return _interpreter(folder)
                await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
                began = time.monotonic()
                count = len(asked.requirements)
                self._progress(f"{asked.name}: making its environment, {count} requirements")
                try:
                    await self._install(partial, asked)
                    partial.rename(folder)
                except BaseException as error:
                    if isinstance(error, EnvironmentNotMade):
                        self._failed[asked.key] = (time.monotonic(), error)
                    await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
                    raise
                took = time.monotonic() - began
                self._progress(f"{asked.name}: its environment is ready after {took:.0f} s")
        except OSError as error:
            raise EnvironmentNotMade(f"{error.filename}: {error.strerror}") from error
        return _interpreter(folder)

    async def _install(self, partial: Path, asked: Wanted) -> None:
        await _run(sys.executable, "-m", "venv", str(partial))
        await _run(
            *(str(_interpreter(partial)), "-m", "pip", "install"),
            *("--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--quiet"),
            *asked.requirements,
        )


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


@contextlib.asynccontextmanager
async def _locked(file: Path) -> AsyncIterator[None]:
    """Hold a lock that other processes see; the kernel drops it when this process ends."""
    with file.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_EVERY_S)
        yield


async def _run(*command: str) -> None:
    """Run to its end. Raises EnvironmentNotMade with its last lines; cancelled, it is killed."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")},
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    )
    try:
        output, _ = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode:
        lines = [line.strip() for line in output.decode(errors="replace").splitlines()]
        said = [line for line in lines if line and not line.startswith("WARNING")]
        tool = "venv" if "venv" in command else "pip"
        raise EnvironmentNotMade(f"{tool} failed: {' | '.join(said[-_LAST_LINES:])}")
