"""`relume render FILE… -o DIR`: what a cluster needs for the YAML that `relume up` runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.cli.cluster.rendering import RenderingOptions, rendering_options
from relume.cli.errors import BadUsage
from relume.cli.screen import Screen
from relume.cluster.render import Rendering, render

if TYPE_CHECKING:
    from relume.base.vocabulary import JsonValue

STDOUT = "-"


@click.command("render", short_help="Make Kubernetes YAML for a cluster, and say why it is so.")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.UNPROCESSED,  # a path, of whatever bytes
    metavar="DIR",
    help="Where the files go; - prints the base. With --explain: json, or nothing for a table.",
)
@rendering_options
@click.option("--force", is_flag=True, help="Write into a folder with other files in it.")
@click.option("--explain", is_flag=True, help="Write nothing: say which rule decided each field.")
def command(
    *,
    files: tuple[Path, ...],
    output: str | None,
    options: RenderingOptions,
    force: bool,
    explain: bool,
) -> int:
    """Make what a cluster with KServe and Knative needs for the manifests in FILE….

    DIR/base is a kustomize base: your own documents, and what they need. DIR/cluster has the
    settings of the cluster that the base needs, one patch for each config map, for its
    administrator. DIR/monitoring is a kustomize component for clusters with the Prometheus
    operator. Nothing is applied.

    What a cluster takes passes, whatever this machine can run: documents of other kinds as they
    are, and InferenceServices that Relume's runtime does not serve with a note that says why.

    \b
    --dra extended-resource   the request in limits stays; the scheduler makes the claim (1.36)
    --dra admission           a policy puts a claim into the pod; it can have fallbacks (1.36)
    --dra standard            KServe's Standard mode with claims; no scale to zero (1.34)

    With --gateway, DIR/base also has a jobs gateway: it stores a request or an event in NATS,
    answers 202 at once, and answers it once whatever restarts meanwhile. DIR/nats-values.yaml are
    values for the official Helm chart of NATS.

    With --llm-d, DIR/base also has an InferencePool, an InferenceObjective and an HTTPRoute for
    each service, and DIR/llm-d the configuration of each pool's endpoint picker.

    \b
    Examples:
      relume render config/samples/ -o out
      relume render config/samples/ -o out --gateway --nats-credentials-secret relume-nats
      relume render service.yaml -o out --dra admission --broker kafka --cold-start-budget 10m
      relume render service.yaml --explain -o json | jq -r '.fields[] | [.path, .rule] | @tsv'
    """
    if explain and output not in (None, "json"):
        raise BadUsage(f"-o {output}: --explain writes no files; -o json prints it as JSON")
    if not explain and output is None:
        raise BadUsage("-o is missing: name the folder to write, or - to print the base")
    rendering = render(files, options())
    if explain:
        _explain(rendering, as_json=output == "json")
    elif output == STDOUT:
        _print_base(rendering)
    else:
        _write(rendering, Path(output or ""), force=force)
    notes = Screen.stderr()
    for note in rendering.notes:
        notes.line(str(note), "yellow")
    return 0


def _write(rendering: Rendering, folder: Path, *, force: bool) -> None:
    from relume.cluster.render.folder import write

    done = write(rendering, folder, force=force)
    screen = Screen.stdout()
    screen.title(f"{folder}: {len(rendering.files)} files, {len(done.written)} of them changed")
    rows = [("kubectl apply --server-side -k", f"{folder}/base")]
    if any(name.startswith("cluster/") for name in rendering.files):
        rows.insert(0, ("first, by the cluster's administrator", f"{folder}/cluster"))
    screen.pairs(rows)
    for name in done.removed:
        screen.line(f"  removed {name}", "dim")


def _print_base(rendering: Rendering) -> None:
    from relume.cluster.render.folder import yaml_text

    base = [
        document
        for file, documents in rendering.documents.items()
        if file.startswith("base/")
        for document in documents
        if document["kind"] != "Kustomization"
    ]
    # YAML is UTF-8 whatever the locale says; an escape of the locale would change the values.
    click.echo(yaml_text(base).encode("utf-8"), nl=False)


def _explain(rendering: Rendering, *, as_json: bool) -> None:
    screen = Screen.stdout()
    if as_json:
        fields = [asdict(decision) for decision in rendering.decisions]
        notes = [{**asdict(n), "file": str(n.file) if n.file else None} for n in rendering.notes]
        screen.json({"fields": fields, "notes": notes})
        return
    for document in dict.fromkeys(decision.document for decision in rendering.decisions):
        rows = [
            (decision.path, _short(decision.value), decision.rule, decision.reason)
            for decision in rendering.decisions
            if decision.document == document
        ]
        screen.title(document)
        screen.table(("field", "value", "rule", "why"), rows)
        screen.line()


def _short(value: "JsonValue", most: int = 40) -> str:
    if value is None:
        return "removed"
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
