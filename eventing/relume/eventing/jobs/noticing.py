"""A job store that tells what this process writes: for estimates, and for those who watch."""

from collections.abc import Callable
from typing import Any, cast

from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobStore


class _Noticing:
    def __init__(self, store: JobStore, noticed: Callable[[Record], None]) -> None:
        self._store = store
        self._noticed = noticed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, record: Record, revision: int) -> int:
        written = await self._store.write(record, revision)
        self._noticed(record)
        return written


def noticing(store: JobStore, noticed: Callable[[Record], None]) -> JobStore:
    """The same store; `noticed` gets each record that was written, after it was."""
    return cast("JobStore", _Noticing(store, noticed))
