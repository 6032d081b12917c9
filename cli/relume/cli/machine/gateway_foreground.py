"""A gateway in the foreground: from files on the command line to the last signal."""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import uvloop

from relume.cli import streams
from relume.cli.errors import INTERRUPTED_EXIT
from relume.cli.screen import Screen
from relume.config import load
from relume.plane.gateway import Gateway, GatewaySettings


def run(files: Sequence[Path], settings: GatewaySettings, *, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT; 0 when all was drained, 130 when cut short.

    Raises what keeps the gateway from starting, as an error with a one-line message.
    """
    logging.basicConfig(level=logging.WARNING, format="relume: %(message)s")
    gateway = Gateway(load(files), settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Foreground(gateway, as_json).run())


class _Foreground:
    """The gateway, and what it does when a signal comes."""

    def __init__(self, gateway: Gateway, as_json: bool) -> None:
        self._gateway = gateway
        self._as_json = as_json
        self._stop = asyncio.Event()
        self._serving = False

    async def run(self) -> int:
        main = asyncio.current_task()
        assert main is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, main)
        try:
            async with self._gateway.running():
                self._serving = True
                self._show()
                await self._stop.wait()
        except asyncio.CancelledError:
            # Our own signal handler cancelled the start, when there was nothing to drain yet.
            if not self._stop.is_set():
                raise
            main.uncancel()
        return INTERRUPTED_EXIT if self._gateway.grace.hurried else 0

    def _show(self) -> None:
        """Print the addresses; where nobody can read them, the gateway serves all the same."""
        gateway, screen = self._gateway, Screen.stdout()
        services = [f"{each.namespace}/{each.name}" for each in gateway.plan.services]
        try:
            if self._as_json:
                screen.json({"url": gateway.url, "services": services})
                return
            screen.title(f"relume gateway serves jobs at {gateway.url}")
            screen.pairs([("jobs", f"{gateway.url}/v1/jobs"), ("services", ", ".join(services))])
        except OSError:
            streams.discard()

    def _on_signal(self, main: "asyncio.Task[int]") -> None:
        if self._gateway.grace.hurried:
            os._exit(INTERRUPTED_EXIT)
        if self._stop.is_set():
            self._gateway.grace.hurry()
            return
        self._stop.set()
        if not self._serving:
            main.cancel()
        elif Screen.stderr().terminal:
            Screen.stderr().line("draining; Ctrl-C again stops at once", "dim")
