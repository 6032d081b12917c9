"""The model store: where models come from, and the folders they are kept in.

This module says how a long preparation tells whoever watches how far it is.
"""

from typing import Protocol


class StoreProgress(Protocol):
    """A watcher of one preparation, which goes through steps that are each counted in bytes."""

    def begin(self, step: str, total: int | None) -> None:
        """A step starts: what it does, in words, and its size in bytes (None: not known)."""

    def advance(self, done: int) -> None:
        """`done` more bytes of the step are finished."""


class Silent:
    """A StoreProgress for when nobody watches."""

    def begin(self, step: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, done: int) -> None:
        """Ignored."""
