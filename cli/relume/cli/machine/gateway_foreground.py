"""A gateway in the foreground: from files on the command line to the last signal."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import uvloop

from relume.cli import streams
from relume.cli.machine.until_signal import UntilSignal
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


class _Foreground(UntilSignal):
    """The gateway, and what it shows."""

    def __init__(self, gateway: Gateway, as_json: bool) -> None:
        super().__init__(gateway)
        self._gateway = gateway
        self._as_json = as_json

    def started(self) -> None:
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
