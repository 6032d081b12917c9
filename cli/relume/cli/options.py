"""Options that several commands take: which plane, how to print, how long."""

from urllib.parse import SplitResult, urlsplit

import click

from relume.cli.errors import BadUsage

#: `--url`; the command receives `url: str | None`, for `relume.cli.machine.client.find_plane`.
plane_option = click.option(
    "--url",
    metavar="URL",
    help="The plane to talk to. Default: $RELUME_URL, else the plane that runs here.",
)
#: `-o/--output`; the command receives `output: str`.
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="How to print.",
)


def http_url(option: str, text: str) -> SplitResult:
    """The parts of the URL of a server that an option was given. Raises BadUsage."""
    from httpx import URL, InvalidURL

    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and text.isprintable() and " " not in text
        URL(text)
    except (ValueError, InvalidURL) as error:
        raise BadUsage(f"{option} {text}: {error}") from error
    if not usable:
        raise BadUsage(f"{option} {text}: write a URL, http://HOST:PORT or https://…")
    return parts


def seconds(option: str, text: str) -> float:
    """The seconds of the duration that an option was given, such as 10m. Raises BadUsage."""
    from relume.config.durations import go_duration

    try:
        found = go_duration(text)
    except ValueError as error:
        raise BadUsage(f"{option}: {error}") from error
    if found < 0:
        raise BadUsage(f"{option} {text}: a time cannot be negative")
    return found
