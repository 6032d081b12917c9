"""Standard input, output and error, in whatever state the process was given them.

A shell may close them (`<&-`, `>&-`), their disk may be full, their reader may go away, and their
encoding may know only ASCII. What is written to a closed stream is dropped, as with /dev/null.
Output that cannot be written ends a command with one line; a line that cannot be written to
standard error ends nothing.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: The file name of an OSError that is about standard output.
STDOUT = "standard output"
_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)  # of the descriptors 0, 1 and 2


class _Lossy(io.TextIOWrapper):
    """Standard error: when it cannot be written, what is said from then on is dropped."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            discard(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            discard(self)


class _Output(io.BufferedWriter):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: "Buffer") -> int:
        with _named():
            return super().write(data)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = STDOUT
        raise


def prepare() -> None:
    """Make the standard streams usable; to be called once, before the process opens anything.

    A closed descriptor gets the null device: without it the next file or socket would get its
    number, be written to as standard output, and make libuv abort. `sys.stdin` stays None where
    standard input is closed, so that a command that is to read it can say so.
    """
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken, and those below this one are open by now.
            os.set_inheritable(os.open(os.devnull, mode), True)
    out, error = sys.stdout, sys.stderr
    # So that a terminal, and who asks with PYTHONUNBUFFERED, has each line at once.
    at_once = isinstance(out, io.TextIOWrapper) and (out.line_buffering or out.write_through)
    sys.stdout = io.TextIOWrapper(
        _Output(io.FileIO(1, "w", closefd=False)),
        "utf-8" if out is None else out.encoding,
        "backslashreplace",
        line_buffering=at_once,
    )
    sys.stderr = _Lossy(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        "utf-8" if error is None else error.encoding,
        "backslashreplace",
        line_buffering=True,
    )


def escape_what_cannot_be_encoded() -> None:
    r"""Let both outputs write a character that they have no code for as `\u2192`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Write what waits to be written; drop it where that fails, as Python would say it again."""
    try:
        sys.stdout.flush()
    except OSError:
        discard()


def discard(stream: io.TextIOBase | None = None) -> None:
    """Put the null device behind a stream, standard output by default."""
    # A stream of a test has no descriptor.
    with contextlib.suppress(OSError, ValueError):
        number = (stream or sys.stdout).fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
