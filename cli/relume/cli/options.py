"""Options that several commands take: which plane, how to print, how long."""

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
