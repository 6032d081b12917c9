"""`relume doctor`: what will not work, and why, before anything is applied."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relume.base.vocabulary import Json
from relume.cli.cluster.options import kubeconfig_option
from relume.cli.errors import BadUsage
from relume.cli.options import output_option, seconds

if TYPE_CHECKING:
    from relume.cluster.admission import Cluster
    from relume.cluster.doctor import Diagnosis
    from relume.cluster.findings import Finding

OK, WRONG, UNREADABLE = 0, 1, 2


@click.command("doctor", short_help="Say what will not work on a cluster, and why.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE…]")
@click.option(
    "--features",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Knative's config-features (and config-defaults, config-autoscaler) as config maps or one "
    "plain map. Default: as shipped.",
)
@click.option(
    "--cold-start",
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How long a replica takes from nothing to its first answer.",
)
@click.option("--context", metavar="NAME", help="Examine the cluster of this kubeconfig context.")
@kubeconfig_option
@click.option(
    "--nats",
    "nats_urls",
    multiple=True,
    metavar="URL",
    help="Examine the NATS cluster of a jobs gateway, too; repeatable.",
)
@click.option(
    "--nats-creds",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The credentials file for it.",
)
@output_option
def command(
    *,
    files: tuple[Path, ...],
    features: Path | None,
    cold_start: str,
    context: str | None,
    kubeconfig: Path | None,
    nats_urls: tuple[str, ...],
    nats_creds: Path | None,
    output: str,
) -> int:
    """Examine manifests offline, a cluster online, its NATS, or several of them.

    The verdict on each document is accepted, refused, or pruned: a pruned one loses a field without
    a word, unless the client asks for strict validation. Of a kind whose admission rules are not
    known here only the fields are judged (fields-only), and a kind that is itself not known is
    unchecked. -o json prints one object a line: for each document, the last with the counts of all,
    for the cluster, and for NATS. Nothing is changed; in NATS a stream of a random name is made and
    removed at once, to find out how many copies it can have.

    Exit code: 0 nothing wrong was found (warnings, fields-only and unchecked are allowed); 1
    something is refused, pruned or will not work; 2 a file is not YAML or not there.

    \b
    Examples:
      relume doctor config/samples
      relume doctor service.yaml --features config-features.yaml --cold-start 4m
      relume doctor service.yaml -o json | jq -r '.findings[].field'
      relume doctor --context prod service.yaml
      relume doctor out --nats nats://127.0.0.1:4222 --nats-creds nats.creds
    """
    from relume.cluster.admission import SHIPPED, read_cluster
    from relume.cluster.doctor import examine

    if not files and context is None and not nats_urls:
        raise BadUsage("name a file, a cluster with --context, or a NATS cluster with --nats")
    if kubeconfig is not None and context is None:
        raise BadUsage("--kubeconfig is for a cluster: name its context with --context NAME")
    if nats_creds is not None and not nats_urls:
        raise BadUsage("--nats-creds is for a NATS cluster: name it with --nats URL")
    start = seconds("--cold-start", cold_start)
    cluster = read_cluster(features) if features is not None else SHIPPED
    code = OK
    if context is not None:
        code, found = _show_cluster(context, kubeconfig, files, output)
        cluster = replace(found, settings=cluster.settings) if features is not None else found
    if nats_urls or context is not None:
        code = max(code, _show_nats(nats_urls, nats_creds, files, output))
    if files:
        diagnoses = examine(files, cluster, cold_start_s=start)
        _show(diagnoses, output)
        code = max(code, _exit_code(diagnoses))
    return code


def _exit_code(diagnoses: Sequence["Diagnosis"]) -> int:
    """The exit code: 2 for what cannot be read, 1 for errors, 0 otherwise."""
    if any(one.unreadable for one in diagnoses):
        return UNREADABLE
    wrong = any(
        one.verdict in ("refused", "pruned") or any(f.severity == "error" for f in one.findings)
        for one in diagnoses
    )
    return WRONG if wrong else OK


def _show(diagnoses: Sequence["Diagnosis"], output: str) -> None:
    """Print every document with what was found about it."""
    if output == "json":
        from relume.cluster.doctor import count_verdicts

        *before, last = map(_document_json, diagnoses)
        for one_object in (*before, {**last, "counts": count_verdicts(diagnoses)}):
            _print_json(one_object)
        return
    from relume.cli.cluster.findings import show_document, show_summary
    from relume.cli.screen import Screen  # it takes longer to load than most files take to read

    screen = Screen.stdout()
    for one in diagnoses:
        show_document(screen, one)
    show_summary(screen, diagnoses)


def _print_json(value: Json) -> None:
    """One JSON object on one line."""
    from relume.cli.text import json_text

    click.echo(json_text(value, sys.stdout.encoding))


def _document_json(one: "Diagnosis") -> Json:
    return {
        "document": one.document,
        "file": str(one.file),
        "line": one.line,
        "apiVersion": one.api_version,
        "kind": one.kind,
        "namespace": one.namespace or None,
        "name": one.name,
        "verdict": one.verdict,
        "findings": _findings_json(one.findings),
    }


def _findings_json(findings: Iterable["Finding"]) -> list[Json]:
    names = ("severity", "field", "reason", "message", "why", "fix", "docs")
    return [
        {name: getattr(one, name) for name in names}
        | {"file": str(one.file) if one.file else None, "line": one.line}
        for one in findings
    ]


def _show_cluster(
    context: str, kubeconfig: Path | None, files: Sequence[Path], output: str
) -> tuple[int, "Cluster"]:
    """Examine the cluster for what is in `files`; returns the exit code and its settings.

    Raises Unreachable where it does not answer, and InvalidInput for files that cannot be read.
    """
    from relume.cluster.apply.api import KubernetesApi
    from relume.cluster.doctor.online import examine_cluster, needs_of, runtimes_of

    needs, classes = needs_of(files)
    report = examine_cluster(
        KubernetesApi.of_context(context, kubeconfig),
        needs=needs,
        broker_classes=classes,
        runtimes=runtimes_of(files),
    )
    wrong = any(finding.severity == "error" for finding in report.findings)
    if output == "json":
        findings = _findings_json(report.findings)
        _print_json({"context": context, "version": report.version, "findings": findings})
    else:
        from relume.cli.cluster.findings import show_findings
        from relume.cli.screen import Screen

        screen = Screen.stdout()
        screen.title(f"cluster {context}, Kubernetes {report.version}")
        show_findings(screen, report.findings)
        screen.line()
    return (WRONG if wrong else OK), report.settings


def _show_nats(
    urls: Sequence[str], credentials: Path | None, files: Sequence[Path], output: str
) -> int:
    """Examine the NATS cluster at `urls`, or the one that a gateway in `files` names.

    Returns the exit code. The name in a manifest often means something inside of the cluster alone:
    that it does not answer here is no error. Raises InvalidInput for files that cannot be read.
    """
    from relume.cluster.doctor.nats import examine_nats, named_nats, unreachable_from_here
    from relume.eventing.jetstream.probe import address_of

    named, copies = named_nats(files)
    asked = tuple(part for url in urls for part in url.split(",") if part) or named
    if not asked:
        return OK
    findings = examine_nats(asked, credentials, copies)
    if not urls:
        findings = unreachable_from_here(findings)
    wrong = any(finding.severity == "error" for finding in findings)
    addresses = [address_of(url) for url in asked]
    if output == "json":
        _print_json({"nats": addresses, "findings": _findings_json(findings)})
    else:
        from relume.cli.cluster.findings import show_findings
        from relume.cli.screen import Screen

        screen = Screen.stdout()
        screen.title(f"NATS {', '.join(addresses)}")
        show_findings(screen, findings)
        screen.line()
    return WRONG if wrong else OK
