"""`relume reload`: a running plane reads its manifests again."""

import asyncio

import click

from relume.cli.machine.client import PlaneClient, find_plane
from relume.cli.machine.reports import ReloadReport
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen


@click.command("reload", short_help="Take over what has changed in the manifests of a plane.")
@output_option
@plane_option
def command(*, output: str, url: str | None) -> int:
    """Let the plane read the files again that `relume up` was started with.

    A changed InferenceService becomes its next revision: the old one answers until the new one is
    ready, and no request is lost. With canaryTrafficPercent it gets that share of the requests, and
    relume status shows both; another percentage alone starts nothing. Added services start at zero;
    removed ones answer what they have begun. Functions, Brokers, Triggers and flows stay as they
    are until a restart, which is told. Where a file is wrong nothing changes, and the exit code is
    2.

    \b
    Examples:
      relume reload
      relume reload -o json | jq .changed
    """
    report = asyncio.run(_reload(find_plane(url)))
    screen = Screen.stdout()
    if output == "json":
        screen.json(report.raw)
        return 0
    for name in report.changed:
        screen.line(f"{name}: changed; the old revision answers until the new one is ready")
    for name in report.added:
        screen.line(f"{name}: added")
    for name in report.removed:
        screen.line(f"{name}: removed")
    for what in report.restart:
        screen.line(f"after a restart of relume up: {what}", "yellow")
    if not (report.changed or report.added or report.removed or report.restart):
        screen.line("nothing has changed")
    return 0


async def _reload(url: str) -> ReloadReport:
    async with PlaneClient(url) as plane:
        return await plane.reload()
