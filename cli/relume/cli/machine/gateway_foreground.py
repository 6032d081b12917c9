"""A gateway in the foreground: from files on the command line to the last signal."""

import logging
from collections.abc import Sequence
from pathlib import Path

from relume.cli.machine.until_signal import run_until_signal
from relume.cli.screen import Screen
from relume.config import load
from relume.plane.gateway import Gateway, GatewaySettings


def run(files: Sequence[Path], settings: GatewaySettings, *, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT; 0 when all was drained, 130 when cut short.

    Raises what keeps the gateway from starting, as an error with a one-line message.
    """
    logging.basicConfig(level=logging.WARNING, format="relume: %(message)s")
    gateway = Gateway(load(files), settings)

    def started() -> None:
        screen = Screen.stdout()
        services = [f"{each.namespace}/{each.name}" for each in gateway.plan.services]
        if as_json:
            screen.json({"url": gateway.url, "services": services})
            return
        screen.title(f"relume gateway serves jobs at {gateway.url}")
        screen.pairs([("jobs", f"{gateway.url}/v1/jobs"), ("services", ", ".join(services))])

    return run_until_signal(
        gateway, started, lambda: f"the gateway goes on serving at {gateway.url}"
    )
