"""A runtime in the foreground, until the last signal."""

import asyncio
import logging

import uvloop

from relume.cli import streams
from relume.cli.machine.until_signal import UntilSignal
from relume.cli.screen import Screen
from relume.plane.runtime import Runtime, RuntimeSettings


def run(settings: RuntimeSettings, *, as_json: bool) -> int:
    """Serve until SIGTERM or SIGINT; 0 when all was answered, 130 when cut short."""
    logging.basicConfig(level=logging.WARNING, format="relume: %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Foreground(Runtime(settings), settings, as_json).run())


class _Foreground(UntilSignal):
    """The runtime, and what it shows."""

    def __init__(self, runtime: Runtime, settings: RuntimeSettings, as_json: bool) -> None:
        super().__init__(runtime)
        self._runtime = runtime
        self._settings = settings
        self._as_json = as_json

    def started(self) -> None:
        """Print the addresses; where nobody can read them, the runtime serves all the same."""
        screen = Screen.stdout()
        url, upstream = self._runtime.url, self._settings.upstream
        try:
            if self._as_json:
                screen.json({"url": url, "upstream": upstream})
            else:
                screen.title(f"relume runtime answers events at {url}/")
                screen.pairs([("upstream", upstream)])
        except OSError:
            streams.discard()
