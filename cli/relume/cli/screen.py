"""Printing for two readers: a person at a terminal, and the next program in a pipe.

A terminal gets colour and tables, a pipe gets the same words as plain lines that are never
wrapped. Text that came from outside (events, models, logs) is shown without control characters,
so that nothing in it can move the cursor or change colours.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import IO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relume.cli.text import json_text

# Lone surrogates stand for the bytes of a file name that is not text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters, except tab and newline, made visible."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class _Console(Console):
    """rich's console, but a reader that goes away is an error like any other.

    rich itself would end the process there, without a word and in the middle of a plane.
    """

    def on_broken_pipe(self) -> None:
        raise


def _console(file: IO[str]) -> Console:
    # rich takes digits for a number that int() refuses.
    sizes = {name: os.environ.get(name, "") for name in ("COLUMNS", "LINES")}
    wrong = {name for name, size in sizes.items() if not (size.isascii() and len(size) < 6)}
    known = {name: value for name, value in os.environ.items() if name not in wrong}
    return _Console(file=file, highlight=False, _environ=known)


class Screen:
    """One output stream."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @classmethod
    def stdout(cls) -> "Screen":
        return cls(_console(sys.stdout))

    @classmethod
    def stderr(cls) -> "Screen":
        return cls(_console(sys.stderr))

    @property
    def terminal(self) -> bool:
        return self.console.is_terminal

    def line(self, text: str = "", style: str = "") -> None:
        """One line of plain text; markup in it has no effect."""
        wide = not self.terminal
        self.console.print(Text(printable(text), style=style), soft_wrap=wide)
        self.console.file.flush()

    def title(self, text: str) -> None:
        """A heading for the next lines."""
        self.line(text, "bold")

    def pairs(self, pairs: Iterable[tuple[str, str]], indent: str = "  ") -> None:
        """Names and values, aligned."""
        shown = [(name, printable(value)) for name, value in pairs]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            text = Text.assemble(indent, (name.ljust(width), "dim"), "  ", value)
            self.console.print(text, soft_wrap=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """Rows under headers: a drawn table in a terminal, aligned columns in a pipe."""
        if self.terminal:
            self.console.print(_drawn(headers, rows))
            return
        plain = [[header.upper() for header in headers], *([str(c) for c in r] for r in rows)]
        widths = [max(len(row[i]) for row in plain) for i in range(len(headers))]
        for row in plain:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.console.print(Text(printable("  ".join(cells).rstrip())), soft_wrap=True)

    def draw_line(self, text: Text) -> None:
        """One styled line, never wrapped."""
        self.console.print(text, soft_wrap=True)

    def quote(self, text: str) -> None:
        """Text from elsewhere, indented; it is wrapped only in a terminal."""
        said = Text(printable(text), style="italic")
        if self.terminal:
            self.console.print(Padding(said, (0, 0, 0, 2)))
        else:
            self.line(f"  {said.plain}")

    def json(self, value: object) -> None:
        """One JSON document on one line; in a terminal it is indented and coloured."""
        if self.terminal and "utf" in self.console.encoding:
            self.console.print_json(json.dumps(value), ensure_ascii=False)
        else:
            self.json_line(value)

    def json_line(self, value: object) -> None:
        """One JSON document on one line, in a terminal too."""
        self.console.file.write(json_text(value, self.console.encoding) + "\n")
        self.console.file.flush()

    def spinner(self, text: str) -> AbstractContextManager[object]:
        """A spinner for as long as the block runs; nothing in a pipe."""
        if not self.terminal:
            return nullcontext()
        return self.console.status(Text(text), spinner="dots")


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim underline")
    for header in headers:
        # Only the last column may be long: it is folded and never cut.
        table.add_column(header, overflow="fold", no_wrap=header != headers[-1])
    for row in rows:
        table.add_row(*(c if isinstance(c, Text) else Text(printable(c)) for c in row))
    return table
