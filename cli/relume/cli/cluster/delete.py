"""`relume delete FILE… --context NAME`: delete what `relume apply` made, in reverse order."""

from pathlib import Path

import click

from relume.cli.cluster.options import ClusterTarget, cluster_options
from relume.cli.cluster.progress import showing
from relume.cli.cluster.rendering import RenderingOptions, rendering_options
from relume.cli.inputs import confirmed
from relume.cli.options import output_option, seconds
from relume.cli.screen import Screen


@click.command("delete", short_help="Delete from a cluster what apply put there.")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@cluster_options
@rendering_options
@click.option("--as-is", is_flag=True, help="The documents were applied as they stand.")
@click.option(
    "--wait",
    default="5m",
    show_default=True,
    metavar="TIME",
    help="How long to wait until an object is gone, before the next.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@output_option
def command(
    *,
    files: tuple[Path, ...],
    target: ClusterTarget,
    options: RenderingOptions,
    as_is: bool,
    wait: str,
    yes: bool,
    output: str,
) -> int:
    """Delete what FILE… name and relume applied; FILE… and options as for apply.

    What others made stays, and so do Namespaces. DeviceClasses, runtimes and the admission
    policy stay while another InferenceService that relume applied is on the cluster.

    \b
    Examples:
      relume delete service.yaml --context prod
      relume delete out --context prod --yes -o json | jq '.kept[]'
    """
    from relume.cluster.apply.applying import plan_removal, remove
    from relume.cluster.apply.manifests import ClusterWriter, read_source
    from relume.cluster.apply.waiting import Pace

    longest = seconds("--wait", wait)
    source = read_source(files, options(), as_is=as_is)
    api = target.api()
    writer = ClusterWriter(api, target.namespace or api.namespace)
    screen = Screen.stderr()
    fates = plan_removal(source, writer)
    going = [fate.manifest for fate in fates if not fate.kept]
    if going and not yes:
        screen.title("to be deleted, in this order")
        for one in going:
            screen.line(f"  {one.title}")
        if not confirmed("Delete them?"):
            raise click.Abort
    with showing(screen) as progress:
        remove(fates, writer, progress, Pace(), longest)
    if output == "json":
        kept = [{"document": f.manifest.title, "why": f.kept} for f in fates if f.kept]
        Screen.stdout().json({"deleted": [one.title for one in going], "kept": kept})
    return 0
