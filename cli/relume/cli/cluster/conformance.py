"""`relume conformance`: what a cluster shows of the CNCF's AI conformance checklist."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.cluster.options import kubeconfig_option
from relume.cli.options import output_option
from relume.cluster.conformance.checklist import LATEST, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relume.cluster.conformance.examine import Result

_STYLES = {"pass": "green", "fail": "red", "unknown": "dim"}


@click.command("conformance", short_help="The CNCF's AI conformance checklist, with evidence.")
@click.option("--context", metavar="NAME", help="The kubeconfig context. Default: no cluster.")
@kubeconfig_option
@click.option(
    "--checklist",
    "version",
    type=click.Choice(VERSIONS),
    default=LATEST,
    show_default=True,
    help="The version of the checklist.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write report.html, report.json, junit.xml, PRODUCT-fragment.yaml and the evidence.",
)
@click.option(
    "--check",
    "product",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="PRODUCT.yaml",
    help="Examine a submission instead, by the rules of the programme's validator.",
)
@output_option
def command(
    *,
    context: str | None,
    kubeconfig: Path | None,
    version: str,
    out: Path | None,
    product: Path | None,
    output: str,
) -> int:
    """Say of every item of the checklist whether the cluster shows it, and keep what was seen.

    An item passes only where all that it demands was seen. Where reading the cluster cannot show
    that, it is unknown, and the report says what was not tried. Nothing is changed: the cluster is
    read, and two objects are sent as dry runs. Without --context every item is unknown.

    Exit code: 0 no item that must hold fails; 1 one does, or the submission breaks a rule.

    \b
    Examples:
      relume conformance --context prod --out report
      relume conformance --context prod --checklist 1.36 -o json
      relume conformance --check v1.37/product/PRODUCT.yaml
    """
    from relume.cluster.apply.api import KubernetesApi
    from relume.cluster.conformance.examine import examine
    from relume.cluster.conformance.report import write

    if product is not None:
        return _check(product, version)
    api = None
    if context is not None or kubeconfig is not None:
        api = KubernetesApi.of_context(context, kubeconfig)
    results = examine(api, version)
    cluster = "no cluster" if api is None else context or str(kubeconfig)
    files = write(out, results, version=version, cluster=cluster) if out is not None else []
    _show(results, version, cluster, output)
    if files and output == "text":
        click.echo(f"{len(files)} files in {out}")
    failed = any(each.seen.outcome == "fail" and each.level == "MUST" for each in results)
    return 1 if failed else 0


def _check(product: Path, version: str) -> int:
    from relume.cli.screen import Screen
    from relume.cluster.conformance.product import check, read

    problems = sorted(check(read(product), version, product.parent))
    for problem in problems:
        Screen.stdout().line(f"{product}: {problem}", "red")
    if not problems:
        Screen.stdout().line(f"{product}: keeps the rules of {version} that can be checked here")
    return 1 if problems else 0


def _show(results: "Sequence[Result]", version: str, cluster: str, output: str) -> None:
    from rich.text import Text

    from relume.cli.screen import Screen, printable
    from relume.cluster.conformance.report import as_json

    screen = Screen.stdout()
    if output == "json":
        screen.json(as_json(results, version, cluster))
        return
    rows = [
        (
            each.item.id,
            each.level,
            each.item.layer,
            Text(each.seen.outcome, style=_STYLES[each.seen.outcome]),
            printable(each.seen.saw),
        )
        for each in results
    ]
    screen.table(("item", "level", "whose", "verdict", "seen"), rows)
