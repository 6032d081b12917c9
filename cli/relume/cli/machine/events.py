"""`relume events`: events as they are accepted, delivered, answered or given up."""

import asyncio

import click
from rich.cells import cell_len

from relume.cesql.parser import ParseError, parse
from relume.cli.errors import BadUsage
from relume.cli.machine.client import PlaneClient, find_plane
from relume.cli.machine.story import record_line
from relume.cli.options import output_option, plane_option
from relume.cli.screen import Screen, printable

_WINDOW = 60  # characters shown of a long expression, half of them before the mistake


@click.command("events", short_help="Watch events as they are accepted, delivered and answered.")
@click.option(
    "--replay",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    metavar="N",
    help="Begin with the last N records.",
)
@click.option(
    "--filter",
    "expression",
    metavar="CESQL",
    help="Show, also of the last N, only events that pass this CESQL expression.",
)
@click.option("--no-follow", is_flag=True, help="Print the replayed records and end.")
@output_option
@plane_option
def command(
    *, replay: int, expression: str | None, no_follow: bool, output: str, url: str | None
) -> int:
    """Watch what happens to events, one line for each stage, until Ctrl-C.

    With -o json, one JSON object a line.

    \b
    Examples:
      relume events
      relume events --replay 20
      relume events --filter "type LIKE 'com.example.%' AND EXISTS subject"
      relume events -o json | jq -r 'select(.stage == "dead-lettered") | .event.id'
    """
    if expression is not None:
        _check("--filter", expression)
    watching = _watch(find_plane(url), replay, not no_follow, expression, output == "json")
    return asyncio.run(watching)


async def _watch(url: str, replay: int, follow: bool, expression: str | None, as_json: bool) -> int:
    screen = Screen.stdout()
    async with (
        PlaneClient(url) as plane,
        plane.events(replay=replay, follow=follow, filter=expression) as records,
    ):
        async for record in records:
            if as_json:
                screen.json_line(record.raw)
            else:
                screen.draw_line(record_line(record))
    return 0


def _check(option: str, expression: str) -> None:
    """Raise BadUsage, with a caret under the first mistake, unless the expression parses."""
    try:
        parse(expression)
    except ParseError as error:
        shown = pointed(expression, error.position)
        raise BadUsage(f"{option}: {printable(str(error))}\n{shown}") from None


def pointed(text: str, position: int) -> str:
    """Two lines: the text around `position` (from 0), and a caret under it."""
    line = "".join(" " if c.isspace() else c for c in printable(text))
    first = max(0, position - _WINDOW // 2)
    before, after = line[first:position], line[position : first + _WINDOW]
    left = "…" if first else ""
    right = "…" if first + _WINDOW < len(line) else ""
    return f"  {left}{before}{after}{right}\n  {' ' * cell_len(left + before)}^"
