"""A CESQL expression on the command line: what is wrong with it is pointed at."""

from rich.cells import cell_len

from relume.cesql.parser import ParseError, parse
from relume.cli.errors import BadUsage
from relume.cli.screen import printable

_WINDOW = 60  # characters shown of a long expression, half of them before the mistake


def checked(option: str, expression: str) -> str:
    """The expression, when it parses. Raises BadUsage with a caret under the first mistake."""
    try:
        parse(expression)
    except ParseError as error:
        shown = pointed(expression, error.position)
        raise BadUsage(f"{option}: {printable(str(error))}\n{shown}") from None
    return expression


def pointed(text: str, position: int) -> str:
    """Two lines: the text around `position` (from 0), and a caret under it."""
    line = "".join(" " if c.isspace() else c for c in printable(text))
    first = max(0, position - _WINDOW // 2)
    before, after = line[first:position], line[position : first + _WINDOW]
    left = "…" if first else ""
    right = "…" if first + _WINDOW < len(line) else ""
    return f"  {left}{before}{after}{right}\n  {' ' * cell_len(left + before)}^"
