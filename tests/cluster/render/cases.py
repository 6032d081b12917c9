"""What is rendered for the golden files, and the command that writes them again.

python -m tests.cluster.render.cases
"""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relume.cluster.render import Images, Options, Rendering, render
from relume.cluster.render.folder import MARKER, write

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "config" / "samples"
GPU_SAMPLES = ROOT / "config" / "samples-gpu"
FUNCTIONS = Path(__file__).parent / "function_samples"
GOLDEN = Path(__file__).parent / "golden"
DIGEST = "sha256:" + 32 * "1f"
IMAGES = Images({"relume-vllm": f"images.example/relume/vllm@{DIGEST}"})
CPU_IMAGES = Images({"relume-vllm-cpu": f"images.example/relume/vllm-cpu@{DIGEST}"})
TICKET_FUNCTIONS = ("redact", "prompt", "extract", "webhook-out")


@dataclass(frozen=True, slots=True)
class Case:
    """One rendering of sample files."""

    name: str
    paths: tuple[Path, ...]
    options: Options


CASES = (
    *(
        Case(f"samples-{route}", (SAMPLES, GPU_SAMPLES), Options(route, images=IMAGES))
        for route in ("extended-resource", "admission", "standard")
    ),
    *(
        Case(f"gpu-{broker}", (GPU_SAMPLES,), Options("extended-resource", broker, 600, IMAGES))
        for broker in ("kafka", "rabbitmq", "nats", "mt")
    ),
    Case(
        "functions",
        (GPU_SAMPLES, FUNCTIONS / "manifests.yaml", FUNCTIONS / "enrich"),
        Options("extended-resource", "kafka", images=IMAGES),
    ),
    Case(
        "tickets",
        (SAMPLES / "tickets", *(ROOT / "functions" / name for name in TICKET_FUNCTIONS)),
        Options(images=CPU_IMAGES),
    ),
)


@cache
def rendered(name: str) -> Rendering:
    """The rendering of the case `name`."""
    (case,) = (case for case in CASES if case.name == name)
    return render(case.paths, case.options)


def update() -> None:
    """Write every golden file again."""
    for case in CASES:
        folder = GOLDEN / case.name
        shutil.rmtree(folder, ignore_errors=True)
        write(rendered(case.name), folder)
        (folder / MARKER).unlink()


if __name__ == "__main__":
    update()
