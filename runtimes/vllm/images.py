"""`make images`: build the images with buildah, podman or docker.

    python runtimes/vllm/images.py [--print] NAME=BASE…

NAME is a runtime of ../manifests or relume-gateway, BASE the image that it is built on, by its
digest. --print shows the commands and runs none. Standard library only.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Containerfile and usual base of each image; the name is that of the ClusterServingRuntime, or of
#: the Deployment.
IMAGES = {
    "relume-vllm": ("Containerfile", "vLLM's image for NVIDIA GPUs"),
    "relume-vllm-amd": ("Containerfile", "vLLM's image for AMD GPUs (ROCm)"),
    "relume-vllm-intel": ("Containerfile", "vLLM's image for Intel GPUs (XPU)"),
    "relume-vllm-cpu": ("Containerfile.cpu", "a slim Debian Python 3.11 to 3.13"),
    "relume-gateway": ("../gateway/Containerfile", "a slim Debian Python 3.11 to 3.13"),
}
_ENGINES = ("buildah", "podman", "docker")
_DIGEST = "@sha256:"


def engine() -> str | None:
    """The first engine that is installed and answers."""
    for name in _ENGINES:
        if shutil.which(name) and _quiet([name, "info"]):
            return name
    return None


def command(engine: str, name: str, base: str, version: str, revision: str) -> list[str]:
    """The command that builds one image from the repository's root."""
    file = (HERE / IMAGES[name][0]).resolve().relative_to(ROOT.resolve())
    words = [engine, "build", "--file", str(file), "--tag", f"relume/{name}:{version}"]
    for argument in (f"BASE={base}", f"VERSION={version}", f"REVISION={revision}"):
        words += ["--build-arg", argument]
    return [*words, "--label", f"org.opencontainers.image.title={name}", "."]


def commit(folder: Path) -> str:
    """The commit of a work tree, "-dirty" after it where files were changed since."""
    revision = _said(folder, ["git", "rev-parse", "HEAD"])
    changed = revision and _said(folder, ["git", "status", "--porcelain"])
    return (revision or "unknown") + ("-dirty" if changed else "")


def wrong(argument: str) -> str:
    """What is wrong with a NAME=BASE, "" for nothing."""
    name, equals, base = argument.partition("=")
    if not equals or name not in IMAGES:
        return f"{argument}: write NAME=BASE; names are {', '.join(IMAGES)}"
    if _DIGEST not in base:
        return f"{argument}: name the base by its digest, as in REPOSITORY{_DIGEST}…"
    return ""


def main(arguments: list[str]) -> int:
    """Build each image; returns the exit code: 1 nothing can build, 2 an argument is wrong."""
    printed = "--print" in arguments
    chosen = [one for one in arguments if one != "--print"]
    problems = [text for text in map(wrong, chosen) if text]
    if problems or not chosen:
        for text in problems or ["name at least one image: make images BASES='NAME=BASE …'"]:
            print(f"images: {text}", file=sys.stderr)
        for name, (_, base) in IMAGES.items():
            print(f"  {name:<18} on {base}", file=sys.stderr)
        return 2
    builder = engine()
    if builder is None and not printed:
        names = ", ".join(_ENGINES)
        print(f"images: nothing here can build: none of {names} is there and runs", file=sys.stderr)
        return 1
    said = "from relume.base.version import version as v; print(v())"
    version = _said(ROOT, [sys.executable, "-c", said]) or "unknown"
    revision = commit(ROOT)
    for one in chosen:
        name, _, base = one.partition("=")
        words = command(builder or _ENGINES[0], name, base, version, revision)
        print(shlex.join(words), flush=True)
        if not printed and subprocess.run(words, cwd=ROOT, check=False).returncode:
            return 1
    return 0


def _quiet(words: list[str]) -> bool:
    try:
        done = subprocess.run(words, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _said(folder: Path, words: list[str]) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
