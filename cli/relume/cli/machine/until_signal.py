"""Serving in the foreground: the first signal drains, the second hurries, the third ends."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import uvloop

from relume.cli import streams
from relume.cli.errors import INTERRUPTED_EXIT
from relume.cli.screen import Screen
from relume.plane.grace import Grace


class Served(Protocol):
    """What serves while `running` is entered, and drains within its grace when that is left."""

    @property
    def grace(self) -> Grace: ...

    def running(self) -> AbstractAsyncContextManager[object]: ...


def run_until_signal(served: Served, started: Callable[[], None], where: Callable[[], str]) -> int:
    """Serve until SIGTERM or SIGINT; 0 when all was drained, 130 when cut short.

    started: prints the addresses once it serves. Where standard output cannot be written, a line on
    standard error says so with `where`, such as "the plane goes on serving at URL".
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_UntilSignal(served, started, where).run())


class _UntilSignal:
    def __init__(
        self, served: Served, started: Callable[[], None], where: Callable[[], str]
    ) -> None:
        self._served = served
        self._started = started
        self._where = where
        self._stop = asyncio.Event()
        self._serving = False

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
                self._show()
                await self._stop.wait()
        except asyncio.CancelledError:
            # Our own signal handler cancelled the start, when there was nothing to drain yet.
            if not self._stop.is_set():
                raise
            main.uncancel()
        return INTERRUPTED_EXIT if self._served.grace.hurried else 0

    def _show(self) -> None:
        try:
            self._started()
        except OSError as error:
            streams.discard()
            Screen.stderr().line(
                f"relume: standard output cannot be written ({error.strerror}); {self._where()}"
            )

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
