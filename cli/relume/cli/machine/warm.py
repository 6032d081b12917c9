"""`relume warm`: start a service before it is asked."""

import asyncio

import click
from rich.status import Status as Spinner
from rich.text import Text

from relume.cli.errors import BadUsage, Refused
from relume.cli.machine.client import PlaneClient, find_plane
from relume.cli.machine.reports import ServiceStatus
from relume.cli.options import output_option, plane_option, seconds
from relume.cli.screen import Screen

_LOOK_EVERY_S = 0.2


@click.command("warm", short_help="Start a service before it is asked.")
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.option(
    "--wait", is_flag=True, help="Wait until it is ready, and show the progress of its start."
)
@click.option(
    "--timeout", default="10m", show_default=True, help="How long --wait waits, such as 90s or 10m."
)
@output_option
@plane_option
def command(*, name: str, wait: bool, timeout: str, output: str, url: str | None) -> int:
    """Start a model or a function that is at zero, for requests that are still to come.

    A service that runs or starts already stays as it is, and its stable window begins again.
    Without a request it goes back to zero by its usual rules: after its stable window and its
    retention period. The annotation relume.dev/warm-at does the same by a schedule.

    \b
    Examples:
      relume warm summarize
      relume warm models/summarize --wait
      relume warm summarize -o json | jq .ready_in_s
    """
    within_s = seconds("--timeout", timeout)
    full_name = name if "/" in name else f"default/{name}"
    if full_name.count("/") != 1 or not all(full_name.split("/")):
        raise BadUsage(f"{name}: write NAMESPACE/NAME, or NAME for the namespace default")
    screen = Screen.stderr() if output == "json" else Screen.stdout()
    service = asyncio.run(_warm(find_plane(url), full_name, screen, within_s if wait else None))
    if output == "json":
        Screen.stdout().json(service.raw)
    elif not wait:
        screen.line(f"{full_name}: {_how_far(service)}")
    return 0


async def _warm(url: str, name: str, screen: Screen, within_s: float | None) -> ServiceStatus:
    """Ask for the start, and where `within_s` is given, wait for its end."""
    async with PlaneClient(url) as plane:
        service = await plane.warm(name)
        if within_s is None:
            return service
        try:
            async with asyncio.timeout(within_s):
                return await _wait(plane, name, service, screen)
        except TimeoutError:
            raise Refused(
                f"{name} is not ready after {within_s:g} s; it goes on starting"
            ) from None


async def _wait(
    plane: PlaneClient, name: str, service: ServiceStatus, screen: Screen
) -> ServiceStatus:
    """Show each change, in a terminal on one line, until the service is ready or has failed."""
    told = ""
    with screen.spinner(f"{name}: {_how_far(service)}") as spinner:
        while service.state != "ready":
            if service.desired == 0:
                raise Refused(f"{name} is not ready: {service.reason or 'its start was cancelled'}")
            if isinstance(spinner, Spinner):
                spinner.update(Text(f"{name}: {_how_far(service)}"))
            elif (words := _phase(service)) != told:
                screen.line(f"{name}: {_how_far(service)}")
                told = words
            await asyncio.sleep(_LOOK_EVERY_S)
            services = (await plane.status()).serving.services
            service = next(each for each in services if each.full_name == name)
    screen.line(f"{name}: ready")
    return service


def _phase(service: ServiceStatus) -> str:
    return f"{service.state}, {service.phase}" if service.phase else service.state


def _how_far(service: ServiceStatus) -> str:
    return ", ".join(filter(None, (_phase(service), service.ready_in)))
