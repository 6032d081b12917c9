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
    from relume.cluster.claims.packing import Packing
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
    type=click.Path(exists=True, path_type=Path),
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
@click.option("--together", is_flag=True, help="Say only what all claims hold beside each other.")
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw what they hold beside each other.",
)
@output_option
def explain(
    *,
    files: tuple[Path, ...],
    inventories: tuple[Path, ...],
    together: bool,
    picture: Path | None,
    output: str,
) -> int:
    """Say for every claim whether the inventory can satisfy it, device by device.

    FILE (or each .yaml file of a folder) holds ResourceClaims, ResourceClaimTemplates,
    DeviceClasses, or what asks for devices: Pods, Deployments, Knative Services, InferenceServices,
    LLMInferenceServices. Where no file holds a DeviceClass, Relume's own (config/dra) and those of
    the drivers' charts are used.

    Each claim is judged on its own. Those of several services are then placed beside each other,
    in the order of the files: a table says which device each one gets, and why one gets none. The
    exit code is 1 when a claim cannot be satisfied alone, with --together also when it cannot
    beside the others.

    \b
    Examples:
      kubectl get resourceslices,nodes,resourceclaims -A -o yaml > inventory.yaml
      relume claims explain service.yaml --slices inventory.yaml
      relume claims explain claims.yaml --slices inventory.yaml -o json | jq '.claims[].sentence'
      relume claims explain out/base --slices inventory.yaml --together --svg cards.svg
    """
    from relume.cluster.claims import documents, packing, wording
    from relume.cluster.claims.explain import survey
    from relume.cluster.claims.findings import as_json
    from relume.cluster.claims.lints import lint

    asked = [d for given in files for file in _files(given) for d in documents.read(file)]
    there = [document for file in inventories for document in documents.read(file)]
    found = survey(asked, there)
    packed = packing.pack(found)
    findings = lint([*asked, *there])
    screen = Screen.stdout()
    if picture is not None:
        _draw(packed, picture)
    if output == "json":
        screen.json(
            {
                "claims": [wording.as_json(report) for report in found.reports],
                "together": packing.as_json(packed),
                "findings": [as_json(document, finding) for document, finding in findings],
            }
        )
    else:
        if not together:
            _show_reports(screen, found.reports)
        if together or sum(bool(report.unit.claims) for report in found.reports) > 1:
            _show_packing(screen, packed)
        _show_findings(screen, findings)
    return 0 if wording.answered(found.reports) and not (together and packed.left) else 1


def _files(given: Path) -> list[Path]:
    """The file, or the YAML files in the folder and below it, such as a rendered base."""
    if not given.is_dir():
        return [given]
    found = sorted(file for file in given.rglob("*.yaml") if file.is_file())
    if not found:
        raise BadUsage(f"{given}: there is no .yaml file in this folder")
    return found


def _draw(packed: "Packing", file: Path) -> None:
    from relume.cluster.claims.picture import svg

    try:
        file.write_text(svg(packed), encoding="utf-8")
    except OSError as error:
        raise BadUsage(f"--svg {file}: {error.strerror}") from error


def _show_packing(screen: Screen, packed: "Packing") -> None:
    from relume.cluster.claims import packing

    screen.title("beside each other, one replica of each")
    screen.table(packing.UNIT_HEADERS, packing.unit_rows(packed))
    screen.line()
    screen.table(packing.CARD_HEADERS, packing.card_rows(packed))
    for line in packing.left_lines(packed):
        screen.line(f"  {line}", "red")
    for card in packed.shown:
        if card.overcommitted:
            screen.line(f"  {card.node} {card.name}: {card.overcommitted}", "yellow")
    screen.line()


def _show_reports(screen: Screen, reports: Sequence["ClaimReport"]) -> None:
    if not reports:
        screen.line("nothing in these files asks for a device")
    for report in reports:
        show_report(screen, report)
        screen.line()


def _show_findings(screen: Screen, findings: Sequence["Found"]) -> None:
    if findings:
        screen.title("worth a look")
        from relume.cluster.claims.findings import sentence

        for _, finding in findings:
            screen.line(f"  {sentence(finding)}", "yellow")


_OPTIONS = (
    ("--context", "context", "TOKENS", "Longest sequence. Default: the model's own limit."),
    ("--concurrency", "concurrency", "N", "Sequences of that length at once. Default: 8."),
    ("--dtype", "dtype", "DTYPE", "auto, bfloat16, float16 or float32."),
    ("--kv-dtype", "kv_dtype", "DTYPE", "Type of the KV cache: auto, or fp8."),
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
    help="Choose from the classes of this vendor.",
)
@click.option("--class", "class_name", metavar="NAME", help="Use this class (llm-gpu-24g…).")
@output_option
def size(
    *, model: str, vendor: str, class_name: str | None, output: str, **options: str | None
) -> int:
    """Account for the memory that vLLM needs to serve MODEL, and name the claim that gets it.

    MODEL is a folder with config.json and safetensors files, a config.json alone, a storageUri in
    the model store, or the YAML file of an InferenceService or LLMInferenceService, of which the
    model and the arguments of vLLM or SGLang are read.
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
        if service.note:
            Screen.stderr().line(f"note: {service.note}", "yellow")
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
    if sizing.shares:
        screen.line()
        screen.title("as a part of a device that others share")
        screen.table(size_wording.SHARE_HEADERS, size_wording.share_rows(sizing))
        screen.line(size_wording.share_annotation(sizing))
        screen.line(size_wording.SHARE_TERMS, "dim")
    name, amount = size_wording.limits(advised)
    screen.line()
    screen.title("in a service (Kubernetes 1.36 and later)")
    screen.line(f'resources: {{limits: {{{name}: "{amount}"}}}}')
    screen.line()
    screen.title("or as a claim")
    template = size_wording.claim_template(advised)
    for line in yaml.dump(template, Dumper=ServerDumper, sort_keys=False).splitlines():
        screen.line(line)
