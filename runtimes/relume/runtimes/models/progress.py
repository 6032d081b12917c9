"""How a long piece of work tells whoever watches how far it is."""

from typing import Protocol


class Progress(Protocol):
    """A watcher of one piece of work that goes through steps, each counted in bytes."""

    def begin(self, step: str, total: int | None) -> None:
        """A step starts: what it does, in words, and its size in bytes (None: not known)."""

    def advance(self, done: int) -> None:
        """`done` more bytes of the step are behind us."""


class Silent:
    """Nobody watches."""

    def begin(self, step: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, done: int) -> None:
        """Ignored."""
