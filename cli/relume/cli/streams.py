"""Standard input, output and error, in whatever state the process was given them.

A shell may close them (`<&-`, `>&-`), their disk may be full, their reader may go away, and their
encoding may know only ASCII. What is written to a closed stream is dropped, as with /dev/null.
Output that cannot be written ends a command with one line; what cannot be said on standard error
ends nothing.
"""

import contextlib
import io
import os
import sys

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
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    error = sys.stderr.buffer if sys.stderr is not None else open(2, "wb", closefd=False)  # noqa: SIM115
    encoding = sys.stderr.encoding if sys.stderr is not None else "utf-8"
    sys.stderr = _Lossy(error, encoding, "backslashreplace", line_buffering=True)


def escape_what_cannot_be_encoded() -> None:
    r"""Let both outputs write a character that they have no code for as `\u2192`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def unwritable() -> OSError | None:
    """The error with which what waits to be written to standard output fails, if it does.

    A failed write leaves its bytes in the buffer, so this also tells whether an error without a
    file name was that of standard output.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def discard(stream: io.TextIOBase | None = None) -> None:
    """Put the null device behind a stream, standard output by default."""
    # A stream of a test has no descriptor.
    with contextlib.suppress(OSError, ValueError):
        number = (stream or sys.stdout).fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
