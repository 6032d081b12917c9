"""What a command reads: a file or standard input, of a bounded size, and a yes or no."""

import sys
from pathlib import Path

import click

from relume.cli.errors import BadUsage

_LARGEST = 256 << 20  # bytes; no Broker takes an event of that size


def read(path: Path, shown: str) -> bytes:
    """The bytes of a file, or of standard input where the path is `-`.

    Raises BadUsage, which begins with `shown`, for what cannot be read or has no end.
    """
    try:
        if str(path) == "-":
            content = _standard_input(shown)
        else:
            with path.open("rb") as file:
                content = file.read(_LARGEST + 1)
    except OSError as error:
        raise BadUsage(f"{shown}: {error.strerror or error}") from None
    if len(content) > _LARGEST:
        raise BadUsage(f"{shown}: larger than {_LARGEST >> 20} MiB, which no Broker takes")
    return content


def _standard_input(shown: str) -> bytes:
    if sys.stdin is None or sys.stdin.closed:
        raise BadUsage(f"{shown}: standard input is closed; name a file")
    return sys.stdin.buffer.read(_LARGEST + 1)


def confirmed(question: str) -> bool:
    """The user's answer, asked on standard error. Raises BadUsage where nobody can answer."""
    try:
        if sys.stdin is not None and not sys.stdin.closed:
            return click.confirm(question, err=True)
    except click.Abort as abort:
        if not isinstance(abort.__context__, EOFError):
            raise  # Ctrl-C
    except UnicodeError:
        pass  # what answers is no person
    raise BadUsage(f"{question} Nobody can answer here: add --yes")
