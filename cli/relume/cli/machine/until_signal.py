"""Serving in the foreground: the first signal drains, the second hurries, the third ends."""

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from relume.cli.errors import INTERRUPTED_EXIT
from relume.cli.screen import Screen
from relume.plane.grace import Grace


class Served(Protocol):
    """What serves while `running` is entered, and drains within its grace when that is left."""

    @property
    def grace(self) -> Grace: ...

    def running(self) -> AbstractAsyncContextManager[object]: ...


class UntilSignal:
    """Serves until SIGTERM or SIGINT; `started` is called once it serves."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._stop = asyncio.Event()
        self._serving = False

    def started(self) -> None:
        """Tell the user where it serves."""

    async def run(self) -> int:
        """The exit code: 0 when all was drained, 130 when cut short."""
        main = asyncio.current_task()
        assert main is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, main)
        try:
            async with self._served.running():
                self._serving = True
                self.started()
                await self._stop.wait()
        except asyncio.CancelledError:
            # Our own signal handler cancelled the start, when there was nothing to drain yet.
            if not self._stop.is_set():
                raise
            main.uncancel()
        return INTERRUPTED_EXIT if self._served.grace.hurried else 0

    def _on_signal(self, main: "asyncio.Task[int]") -> None:
        if self._served.grace.hurried:
            os._exit(INTERRUPTED_EXIT)  # the kernel ends the children too
        if self._stop.is_set():
            self._served.grace.hurry()
            return
        self._stop.set()
        if not self._serving:
            main.cancel()
        elif Screen.stderr().terminal:
            Screen.stderr().line("draining; Ctrl-C again stops at once", "dim")
