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
    removed ones answer what they have begun. Functions, Brokers, Triggers, flows and sources come,
    change and go too. An attempt to deliver that is under way ends as it began, and its retries go
    by the new files. Events that wait for a Trigger that is removed go with it.
    Where a file is wrong nothing changes, and the exit code is 2. The same is true for what cannot
    change while it runs: the class of a Broker, and the Broker and the order of a Trigger.

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
        screen.line(f"{name}: changed{_of_revisions(name, report.shares.get(name))}")
    for name in report.added:
        screen.line(f"{name}: added")
    for name in report.removed:
        screen.line(f"{name}: removed")
    if not (report.changed or report.added or report.removed):
        screen.line("nothing has changed")
    return 0


def _of_revisions(name: str, share: int | None) -> str:
    """What becomes of the revisions of something that has changed; nothing where it has none."""
    if share is not None:
        return f"; its newest revision is to get {share} % of the requests, and no new one starts"
    has_revisions = " " not in name or name.startswith("function ")
    return "; the old revision answers until the new one is ready" if has_revisions else ""


async def _reload(url: str) -> ReloadReport:
    async with PlaneClient(url) as plane:
        return await plane.reload()
