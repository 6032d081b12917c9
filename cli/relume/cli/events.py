"""`relume events`: events as they are accepted, delivered, answered or given up."""

import asyncio

import click
from rich.text import Text

from relume.cli.address import find_plane, output_option, plane_option
from relume.cli.cesql import checked
from relume.cli.client import PlaneClient
from relume.cli.reports import Record
from relume.cli.screen import Screen, printable

STYLES = {
    "accepted": "blue",
    "delivering": "yellow",
    "delivered": "green",
    "replied": "green",
    "retrying": "magenta",
    "dead-lettered": "bold red",
    "dropped": "bold red",
    "redriven": "blue",
}


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
@output_option()
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
        checked("--filter", expression)
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


def record_line(record: Record) -> Text:
    """One record in one line: time, stage, where, which event, and what came of it."""
    clock = record.at.partition("T")[2][:12].rstrip("Z") or record.at
    where = record.broker if record.trigger is None else f"{record.broker} → {record.trigger}"
    line = Text.assemble(
        (f"{clock:<12}", "dim"),
        "  ",
        (f"{record.stage:<13}", STYLES.get(record.stage, "")),
        "  ",
        printable(f"{where}  {record.type}  {record.id}"),
    )
    if words := _outcome(record):
        line.append(f"  {printable(words)}", "dim")
    return line


def _outcome(record: Record) -> str:
    parts = []
    if record.attempt is not None and record.attempt > 1:
        parts.append(f"attempt {record.attempt}")
    if record.status is not None:
        parts.append(f"status {record.status}")
    if record.ms is not None:
        parts.append(f"{record.ms:,.0f} ms")
    if record.detail:
        parts.append(record.detail)
    return ", ".join(parts)
