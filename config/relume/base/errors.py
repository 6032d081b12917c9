"""The errors that Relume raises on purpose.

    RelumeError
    └── InvalidInput          the caller's input is wrong (exit code 2)
        └── InvalidManifest   a YAML document is wrong: names file, line and field

Each layer adds its own branches. The leaves `relume.cloudevents` and `relume.cesql` know nothing
of these: their InvalidEvent and ParseError are ValueErrors with the same two attributes. `reason`
is a stable kebab-case word that programs may test for; the message is for people. `retryable` says
whether the same call may succeed later without a change of input.
"""

from pathlib import Path
from typing import ClassVar

_LONGEST_MESSAGE = 600  # characters


class RelumeError(Exception):
    """Base of all deliberate errors; it is never raised itself."""

    reason: str = "failed"
    retryable: bool = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class InvalidInput(RelumeError):
    """The input can never succeed as it stands."""

    reason = "invalid-input"
    exit_code = 2


class InvalidManifest(InvalidInput):
    """A manifest is wrong. `str()` reads `FILE:LINE: FIELD: what is wrong and what to write`."""

    reason = "invalid-manifest"

    def __init__(self, message: str, *, file: Path, line: int, field: str) -> None:
        super().__init__(one_line(f"{file}:{line}: {field}: {message}"))
        self.file = file
        self.line = line
        self.field = field


def one_line(text: str) -> str:
    """The text without characters that move a cursor, which a quoted value may hold."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _LONGEST_MESSAGE else shown[:_LONGEST_MESSAGE] + "…"
