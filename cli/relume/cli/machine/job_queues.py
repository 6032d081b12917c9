"""The commands of `relume jobs` for the queue of a service."""

import asyncio

import click

from relume.cli.inputs import confirmed
from relume.cli.machine.client import find_plane
from relume.cli.machine.job_request import full_name
from relume.cli.machine.job_story import show_queues
from relume.cli.machine.jobs_client import JobsClient
from relume.cli.machine.reports import QueueReport
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen


@click.command("queues")
@click.option("--lanes", is_flag=True, help="Also show what waits of each tenant.")
@output_option
@plane_option
def queues(*, lanes: bool, output: str, url: str | None) -> int:
    """Show the queue of each service.

    Where several gateways share the work, the one that is asked counts all jobs that wait, and of
    those that run only its own.

    \b
    Examples:
      relume jobs queues --lanes
    """

    async def ask() -> tuple[QueueReport, ...]:
        async with JobsClient(find_plane(url)) as client:
            return await client.queues()

    found = asyncio.run(ask())
    screen = Screen.stdout()
    if output == "json":
        screen.json([queue.raw for queue in found])
    else:
        show_queues(screen, {q.service: q for q in found}, lanes=lanes)
    return 0


@click.command("pause")
@click.argument("service", metavar="NS/NAME")
@plane_option
def pause(*, service: str, url: str | None) -> int:
    """Start no more jobs of a service, also after a restart; new ones are still accepted.

    \b
    Examples:
      relume jobs pause default/summarize
    """
    return _on_queue(url, service, "pause", "paused")


@click.command("resume")
@click.argument("service", metavar="NS/NAME")
@plane_option
def resume(*, service: str, url: str | None) -> int:
    """Start the jobs of a paused service again.

    \b
    Examples:
      relume jobs resume default/summarize
    """
    return _on_queue(url, service, "resume", "runs again")


@click.command("purge")
@click.argument("service", metavar="NS/NAME")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@plane_option
def purge(*, service: str, yes: bool, url: str | None) -> int:
    """Cancel every job of a service that waits and was never started.

    \b
    Examples:
      relume jobs purge default/summarize --yes
    """
    name = full_name(service)
    if not yes and not confirmed(f"Cancel every job that waits for {name}?"):
        Screen.stdout().line("nothing cancelled")
        return 1
    return _on_queue(url, service, "purge", "purged")


def _on_queue(url: str | None, service: str, action: str, done: str) -> int:
    name = full_name(service)

    async def ask() -> object:
        async with JobsClient(find_plane(url)) as client:
            return await client.on_queue(name, action)

    said = asyncio.run(ask())
    count = said.get("cancelled") if isinstance(said, dict) else None
    Screen.stdout().line(f"{name}: {done}" + (f", {count} cancelled" if count is not None else ""))
    return 0
