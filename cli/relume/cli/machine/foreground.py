"""A plane in the foreground: from files on the command line to the last signal."""

import gc
import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from relume.cli.machine.until_signal import run_until_signal
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
    plane = LocalPlane(plan, settings, store, partial(load, files, machine))

    def started() -> None:
        from relume.cli.machine.listing import show_plane  # nothing needs it before the plane is up

        _leave_to_the_collector_what_comes_now()
        show_plane(Screen.stdout(), plane, as_json=as_json)

    return run_until_signal(plane, started, lambda: f"the plane goes on serving at {plane.http}")


# After how many new objects the collector looks for cycles, and how often it looks at older ones.
# With Python's own 700, 10 and 10 it took a twentieth of an event's time, and found nothing. With
# 20,000 it stops the event loop for 6 to 10 ms each time, because the events under way live then.
_COLLECTED_AFTER = (2_000, 200, 20)


def _leave_to_the_collector_what_comes_now() -> None:
    # Modules and the plane itself live as long as the process. Walking them all, which happens
    # every 1,500 events, stops the event loop for 40 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
    gc.enable()
