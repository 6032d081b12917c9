"""A child that does not outlive the process that needs it (Linux; elsewhere it does nothing)."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel for SIGKILL when the parent dies; exit if it is dead already.

    `parent` is the pid that this process was started by, where the caller knows it: a parent that
    died between the fork and this call would otherwise leave an orphan. See prctl(2).
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
