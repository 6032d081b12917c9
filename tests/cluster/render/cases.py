"""What is rendered for the golden files, and the command that writes them again.

python -m tests.cluster.render.cases
"""

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relume.cluster.render import (
    GatewayOptions,
    Images,
    LlmDOptions,
    Options,
    Rendering,
    render,
)
from relume.cluster.render.folder import MARKER, write

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "config" / "samples"
GPU_SAMPLES = ROOT / "config" / "samples-gpu"
SHARED = Path(__file__).parent / "shared_samples.yaml"
FUNCTIONS = Path(__file__).parent / "function_samples"
GOLDEN = Path(__file__).parent / "golden"
DIGEST = "sha256:" + 32 * "1f"
IMAGES = Images({"relume-vllm": f"images.example/relume/vllm@{DIGEST}"})
CPU_IMAGES = Images({"relume-vllm-cpu": f"images.example/relume/vllm-cpu@{DIGEST}"})
GATEWAY_IMAGES = Images(
    {
        **IMAGES.by_runtime,
        **CPU_IMAGES.by_runtime,
        "relume-gateway": f"images.example/relume/gateway@{DIGEST}",
    }
)
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
        "gateway-samples",
        (SAMPLES,),
        Options(
            images=GATEWAY_IMAGES,
            gateway=GatewayOptions(nats_credentials_secret="relume-nats"),
        ),
    ),
    Case(
        "gateway-kafka",
        (GPU_SAMPLES,),
        Options(
            "extended-resource",
            "kafka",
            600,
            GATEWAY_IMAGES,
            GatewayOptions(
                nats_urls=("nats://n1.example.com:4222", "nats://n2.example.com:4222"),
                nats_credentials_secret="jobs-nats",
                oidc_issuer="https://login.example.com/realms/ai",
                oidc_audience="relume",
                namespace="jobs",
            ),
        ),
    ),
    Case(
        "gateway-standard",
        (GPU_SAMPLES,),
        Options(
            "standard",
            "rabbitmq",
            images=GATEWAY_IMAGES,
            gateway=GatewayOptions(nats_credentials_secret="relume-nats"),
        ),
    ),
    *(
        Case(f"shared-{route}", (SHARED,), Options(route, images=IMAGES))
        for route in ("admission", "standard")
    ),
    Case(
        "llm-d-knative",
        (SAMPLES / "summarize.yaml",),
        Options(images=CPU_IMAGES, llm_d=LlmDOptions()),
    ),
    Case(
        "llm-d-standard",
        (GPU_SAMPLES,),
        Options("standard", "kafka", images=IMAGES, llm_d=LlmDOptions("ingress/shared")),
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
