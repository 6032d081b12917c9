"""`relume claims`: how many devices a model needs, and which devices of a cluster a claim gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.cluster.progress import show_report
from relume.cli.errors import BadUsage
from relume.cli.options import output_option
from relume.cli.screen import Screen
from relume.config.yaml_scalars import ServerDumper

if TYPE_CHECKING:
    from relume.cluster.claims.explain import ClaimReport
    from relume.cluster.claims.findings import Found
    from relume.cluster.claims.sizing.account import Sizing


@click.group("claims", short_help="Size a GPU claim; say which devices it gets, and why not.")
def command() -> None:
    """GPUs through Dynamic Resource Allocation (DRA), without a cluster.

    \b
    Examples:
      relume claims size ./Qwen2.5-7B-Instruct --context 8192 --concurrency 16
      relume claims explain service.yaml --slices inventory.yaml
    """


@command.command("explain", short_help="Which devices satisfy a claim, and why others do not.")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE…",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--slices",
    "inventories",
    multiple=True,
    required=True,
    metavar="INVENTORY",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ResourceSlices, and what else matters: Nodes, ResourceClaims, DeviceClasses, "
    "DeviceTaintRules. YAML or JSON; may be given again.",
)
@output_option
def explain(*, files: tuple[Path, ...], inventories: tuple[Path, ...], output: str) -> int:
    """Say for every claim whether the inventory can satisfy it, device by device.

    FILE holds ResourceClaims, ResourceClaimTemplates, DeviceClasses, or what asks for devices by
    its limits: Pods, Deployments, Knative Services, InferenceServices. Where no file holds a
    DeviceClass, Relume's own (config/dra) and those of the drivers' charts are used.

    Each claim is judged on its own; where those of several services do not fit at once, a line
    says so. The exit code is 1 when one claim cannot be satisfied.

    \b
    Examples:
      kubectl get resourceslices,nodes,resourceclaims -A -o yaml > inventory.yaml
      relume claims explain service.yaml --slices inventory.yaml
      relume claims explain claims.yaml --slices inventory.yaml -o json | jq '.claims[].sentence'
    """
    from relume.cluster.claims import documents, wording
    from relume.cluster.claims.explain import explain as explained
    from relume.cluster.claims.findings import as_json
    from relume.cluster.claims.lints import lint

    asked = [document for file in files for document in documents.read(file)]
    there = [document for file in inventories for document in documents.read(file)]
    reports = explained(asked, there)
    findings = lint([*asked, *there])
    screen = Screen.stdout()
    if output == "json":
        screen.json(
            {
                "claims": [wording.as_json(report) for report in reports],
                "findings": [as_json(document, finding) for document, finding in findings],
            }
        )
    else:
        _show_reports(screen, reports, findings)
    return 0 if wording.answered(reports) else 1


def _show_reports(
    screen: Screen, reports: Sequence["ClaimReport"], findings: Sequence["Found"]
) -> None:
    if not reports:
        screen.line("nothing in these files asks for a device")
    for report in reports:
        show_report(screen, report)
        screen.line()
    if findings:
        screen.title("worth a look")
        from relume.cluster.claims.findings import sentence

        for _, finding in findings:
            screen.line(f"  {sentence(finding)}", "yellow")


_OPTIONS = (
    ("--context", "context", "TOKENS", "Longest sequence. Default: the model's own limit."),
    ("--concurrency", "concurrency", "N", "Sequences of that length at once. Default: 8."),
    ("--dtype", "dtype", "DTYPE", "auto, bfloat16, float16 or float32."),
    ("--kv-dtype", "kv_dtype", "DTYPE", "Of the KV cache: auto, or fp8."),
    ("--tensor-parallel", "tensor_parallel", "N", "Split over N devices. Default: find out."),
    ("--quantization", "quantization", "METHOD", "Quantise while loading: fp8, bitsandbytes…"),
    (
        "--lora-rank",
        "lora_rank",
        "RANK",
        "Largest rank of LoRA adapters. Default with --loras: 16.",
    ),
    ("--loras", "loras", "N", "LoRA adapters in memory at once."),
    ("--batched-tokens", "batched", "TOKENS", "vLLM's --max-num-batched-tokens. Default: 2048."),
    ("--block-size", "block", "TOKENS", "vLLM's --block-size. Default: 16."),
    ("--gpu-memory-utilization", "utilization", "SHARE", "vLLM's option. Default: 0.92."),
)


def _flags(command: "click.decorators.FC") -> "click.decorators.FC":
    for option, name, metavar, words in reversed(_OPTIONS):
        command = click.option(option, name, metavar=metavar, help=words)(command)
    return command


@command.command("size", short_help="How many devices of which class a model needs, and why.")
@click.argument("model", metavar="MODEL", type=click.UNPROCESSED)
@_flags
@click.option(
    "--vendor",
    type=click.Choice(("NVIDIA", "AMD", "Intel"), case_sensitive=False),
    default="NVIDIA",
    show_default=True,
    help="Whose classes to choose from.",
)
@click.option("--class", "class_name", metavar="NAME", help="Use this class (llm-gpu-24g…).")
@output_option
def size(
    *, model: str, vendor: str, class_name: str | None, output: str, **options: str | None
) -> int:
    """Account for the memory that vLLM needs to serve MODEL, and name the claim that gets it.

    MODEL is a folder with config.json and safetensors files, a config.json alone, a storageUri in
    the model store, or an InferenceService YAML file, of which storageUri and args are read.
    Options given here come before those args.

    \b
    Examples:
      relume claims size ./Qwen2.5-7B-Instruct --context 8192 --concurrency 16
      relume claims size config/samples/summarize.yaml
      relume claims size ./config.json --kv-dtype fp8 --class llm-gpu-40g -o json
    """
    from relume.cluster.claims.sizing import wording as size_wording
    from relume.cluster.claims.sizing.request import SizeRequest

    path, flags = _resolve(model)
    chosen = {name: value for name, value in options.items() if value is not None}
    sizing = SizeRequest(path, {**flags, **chosen}, vendor, class_name).size()
    screen = Screen.stdout()
    if output == "json":
        screen.json(size_wording.as_json(sizing))
    else:
        _show_sizing(screen, sizing)
    return 0


def _resolve(model: str) -> tuple[Path, dict[str, str]]:
    """The folder or config.json behind MODEL, and the flags that came with it."""
    path = Path(model)
    if path.is_dir() or (path.is_file() and path.suffix == ".json"):
        return path, {}
    if path.is_file():
        from relume.cluster.claims import documents
        from relume.cluster.claims.sizing.request import served

        service = served(documents.read(path))
        if service is None:
            raise BadUsage(f"{model}: holds no InferenceService")
        return _stored(service.storage_uri), dict(service.flags)
    if "://" not in model:
        raise BadUsage(f"{model}: no such folder or file, and not a storageUri")
    return _stored(model), {}


def _stored(uri: str) -> Path:
    from relume.runtimes.models.store import ModelStore, default_root

    return ModelStore(default_root()).resolve(uri)


def _show_sizing(screen: Screen, sizing: "Sizing") -> None:
    import yaml

    from relume.cluster.claims.sizing import wording as size_wording

    advised = sizing.advised
    devices = advised.need.devices
    demand = sizing.demand
    many = "device" if devices == 1 else "devices"
    screen.title(
        f"{devices} {many} of {advised.preset.name}, for {demand.concurrency} sequences of "
        f"{demand.context:,} tokens"
    )
    screen.table(size_wording.HEADERS, list(size_wording.rows(advised)))
    for note in sizing.model.notes:
        screen.line(f"note: {note}", "yellow")
    screen.line()
    screen.title("enough would be")
    screen.table(size_wording.OPTION_HEADERS, size_wording.option_rows(sizing))
    name, amount = size_wording.limits(advised)
    screen.line()
    screen.title("in a service (Kubernetes 1.36 and later)")
    screen.line(f'resources: {{limits: {{{name}: "{amount}"}}}}')
    screen.line()
    screen.title("or as a claim")
    template = size_wording.claim_template(advised)
    for line in yaml.dump(template, Dumper=ServerDumper, sort_keys=False).splitlines():
        screen.line(line)
