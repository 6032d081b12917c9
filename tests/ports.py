"""Ports for servers that are stopped and started again on the same address.

A port that the system gave out may be given to somebody else while its server is down. These lie
below the ones that Linux gives out (`ip_local_port_range` starts at 32768) and below the ones that
a plane takes for its predictors (`relume.plane.launch.PORTS`), and each pytest-xdist worker takes
them from a range of its own.
"""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

_FIRST, _END = 10_000, 20_000


def _own_range() -> Iterator[int]:
    """The ports of this worker, again and again; two runs at once begin at different places."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = (_END - _FIRST) // workers
    first = _FIRST + number * width
    begin = os.getpid() * 100 % width
    return itertools.cycle([first + (begin + step) % width for step in range(width)])


_ports = _own_range()


def own_port() -> int:
    """A port that is free now and that nobody else takes while its server is down."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
