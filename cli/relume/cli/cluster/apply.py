"""`relume apply FILE… --context NAME`: apply manifests to a cluster, in an order that works."""

from pathlib import Path

import click

from relume.cli.cluster.options import ClusterTarget, cluster_options
from relume.cli.cluster.progress import showing
from relume.cli.cluster.rendering import RenderingOptions, rendering_options
from relume.cli.options import output_option, seconds
from relume.cli.screen import Screen


@click.command("apply", short_help="Apply manifests to a cluster, and wait until they work.")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@cluster_options
@rendering_options
@click.option("--as-is", is_flag=True, help="Apply the documents as they stand, of any kind.")
@click.option("--dry-run", is_flag=True, help="Ask the cluster whether it would take them.")
@click.option(
    "--wait",
    default="10m",
    show_default=True,
    metavar="TIME",
    help="How long to wait until all is ready; 0 does not wait.",
)
@click.option(
    "--despite-settings", is_flag=True, help="Apply although settings of the cluster are missing."
)
@click.option("--force-conflicts", is_flag=True, help="Take over fields that others apply too.")
@output_option
def command(
    *,
    files: tuple[Path, ...],
    target: ClusterTarget,
    options: RenderingOptions,
    as_is: bool,
    dry_run: bool,
    wait: str,
    despite_settings: bool,
    force_conflicts: bool,
    output: str,
) -> int:
    """Apply FILE… to a cluster: render first, unless FILE is a folder that was rendered.

    Every document is first tried as a server-side dry run with strict validation; where one is
    refused, nothing is applied. Where the documents have an admission policy, the command waits
    until a dry-run pod shows that the policy acts. At the end it waits until everything is ready.
    The exit code is 1 where a pod becomes ready without its device. Where a claim cannot be
    allocated, the cluster's ResourceSlices say which clause no device matches. Settings of the
    cluster itself are compared and never changed.

    \b
    Examples:
      relume apply config/samples/ --context prod --image relume-vllm-cpu=REPOSITORY@sha256:…
      relume render service.yaml -o out --dra admission && relume apply out --context prod
      relume apply out --context prod --dry-run
    """
    from relume.cluster.apply.applying import Choices, apply
    from relume.cluster.apply.manifests import ClusterWriter, read_source
    from relume.cluster.apply.waiting import Pace

    choices = Choices(seconds("--wait", wait), dry_run, despite_settings)
    source = read_source(files, options(), as_is=as_is)
    screen = Screen.stderr()
    for note in source.notes:
        screen.line(str(note), "yellow")
    api = target.api()
    writer = ClusterWriter(api, target.namespace or api.namespace, force=force_conflicts)
    with showing(screen) as progress:
        done = apply(source, writer, choices, progress, Pace())
    if output == "json":
        shown = [
            {"apiVersion": m.api_version, "kind": m.kind, "namespace": m.namespace or None}
            | {"name": m.name}
            for m in done
        ]
        Screen.stdout().json({"applied": [] if dry_run else shown, "tried": shown})
    elif not dry_run:
        screen.line(f"{len(done)} documents applied{', all is ready' * bool(choices.wait_s)}")
    return 0
