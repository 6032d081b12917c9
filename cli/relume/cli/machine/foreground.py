"""A plane in the foreground: from files on the command line to the last signal."""

import asyncio
import gc
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from relume.cli import streams
from relume.cli.machine.until_signal import UntilSignal
from relume.cli.screen import Screen
from relume.config import load
from relume.config.here import NOTHING, Machine
from relume.plane.launch import check, set_runtime_defaults
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.memory import check_minimum
from relume.runtimes.models.store import ModelStore, default_root


def run(
    files: Sequence[Path],
    settings: PlaneSettings,
    machine: Machine = NOTHING,
    *,
    as_json: bool,
) -> int:
    """Serve the manifests until SIGTERM or SIGINT; 0 when all was drained, 130 when cut short.

    `machine` is what the user gives beside the files.
    Raises what keeps the plane from starting, as an error with a one-line message.
    """
    logging.basicConfig(level=logging.WARNING, format="relume: %(message)s")
    set_runtime_defaults(os.environ)
    plan = load(files, machine)
    store = ModelStore(default_root())
    check(plan, store)
    check_minimum(plan, store, settings.memory_bytes)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        plane = LocalPlane(plan, settings, store, partial(load, files, machine))
        return runner.run(_Foreground(plane, as_json).run())


# After how many new objects the collector looks for cycles, and how often it looks at older ones.
# With Python's own 700, 10 and 10 it took a twentieth of an event's time, and found nothing.
_COLLECTED_AFTER = (20_000, 20, 20)


class _Foreground(UntilSignal):
    """The plane, and what it shows."""

    def __init__(self, plane: LocalPlane, as_json: bool) -> None:
        super().__init__(plane)
        self._plane = plane
        self._as_json = as_json

    def started(self) -> None:
        _leave_to_the_collector_what_comes_now()
        self._show()

    def _show(self) -> None:
        """Print the addresses; where nobody can read them, the plane serves all the same."""
        from relume.cli.machine.listing import show_plane  # nothing needs it before the plane is up

        try:
            show_plane(Screen.stdout(), self._plane, as_json=self._as_json)
        except OSError as error:
            streams.discard()
            Screen.stderr().line(
                f"relume: standard output cannot be written ({error.strerror}); "
                f"the plane goes on serving at {self._plane.http}"
            )


def _leave_to_the_collector_what_comes_now() -> None:
    # Modules and the plane itself live as long as the process. Walking them all, which happens
    # every 1,500 events, stops the event loop for 40 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
    gc.enable()
