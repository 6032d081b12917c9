"""`relume claims`: how many devices a model needs, and which devices of a cluster a claim gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.address import output_option
from relume.cli.claim_size import size
from relume.cli.screen import Screen

if TYPE_CHECKING:
    from relume.cluster.claims.explain import Report
    from relume.cluster.claims.findings import Found

_COLOURS = {"satisfiable": "green", "undecided": "yellow"}


@click.group("claims", short_help="Size a GPU claim; say which devices it gets, and why not.")
def command() -> None:
    """GPUs through Dynamic Resource Allocation (DRA), without a cluster.

    \b
    Examples:
      relume claims size ./Qwen2.5-7B-Instruct --context 8192 --concurrency 16
      relume claims explain service.yaml --slices inventory.yaml
    """


command.add_command(size)


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
@output_option()
def explain(*, files: tuple[Path, ...], inventories: tuple[Path, ...], output: str) -> int:
    """Say for every claim whether the inventory can satisfy it, device by device.

    FILE holds ResourceClaims, ResourceClaimTemplates, DeviceClasses, or what asks for devices by
    its limits: Pods, Deployments, Knative Services, InferenceServices. DeviceClasses that no file
    holds are Relume's own (config/dra) and those of the drivers' charts.

    Each claim is judged as if it came alone; where those of several services do not fit at once,
    a line says so. Exit code 1 when one cannot be satisfied alone.

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
        _show(screen, reports, findings)
    return 0 if wording.answered(reports) else 1


def _show(screen: Screen, reports: Sequence["Report"], findings: Sequence["Found"]) -> None:
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


def show_report(screen: Screen, report: "Report") -> None:
    """One claim: the answer, then request by request the devices and the clauses."""
    from relume.cluster.claims import wording

    screen.line(wording.headline(report), _COLOURS.get(report.answer, "red"))
    if report.beside:
        screen.line(f"  {report.beside}", "yellow")
    screen.pairs(wording.witness(report))
    for note in report.unit.notes:
        screen.line(f"  note: {note}", "yellow")
    for one in report.asks:
        screen.line()
        screen.title(wording.ask_title(one))
        screen.table(wording.HEADERS, wording.rows(one))
        screen.line()
        screen.table(wording.CLAUSE_HEADERS, wording.clause_rows(one))
    if report.nodes:
        screen.line()
        screen.table(
            ("nodes", "on", "answer"),
            [(str(len(on)), wording.names(on), reason) for reason, on in report.nodes],
        )
