"""Servers that stop soon: uvicorn looks every 0.1 s whether it should stop, and waits 0.1 s then.

Hundreds of tests start a server of their own, and nothing that they assert depends on how long
uvicorn sleeps.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn.server

_LONGEST_S = 0.01


class _BriefSleeps:
    """The module asyncio as uvicorn's server sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(min(delay, _LONGEST_S))


@contextmanager
def servers_that_stop_soon() -> Iterator[None]:
    """Within the block, servers in this process sleep briefly while they serve and stop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", _BriefSleeps())
        yield
