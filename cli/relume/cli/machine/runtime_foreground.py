"""A runtime in the foreground, until the last signal."""

import logging

from relume.cli.machine.until_signal import run_until_signal
from relume.cli.screen import Screen
from relume.plane.runtime import Runtime, RuntimeSettings


def run(settings: RuntimeSettings, *, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT; 0 when all was answered, 130 when cut short."""
    logging.basicConfig(level=logging.WARNING, format="relume: %(message)s")
    runtime = Runtime(settings)

    def started() -> None:
        screen = Screen.stdout()
        if as_json:
            screen.json({"url": runtime.url, "upstream": settings.upstream})
        else:
            screen.title(f"relume runtime answers events at {runtime.url}/")
            screen.pairs([("upstream", settings.upstream)])

    return run_until_signal(
        runtime, started, lambda: f"the runtime goes on serving at {runtime.url}"
    )
