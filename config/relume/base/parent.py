"""A child process that does not outlive the process that needs it.

This works on Linux, through prctl(2). On other systems it does nothing.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Loaded before a fork: what runs between fork and exec should not load libraries.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(
    parent: int | None = None, with_signal: signal.Signals = signal.SIGKILL
) -> None:
    """Ask the kernel to send this process `with_signal` when its parent dies.

    `parent` is the pid of the process that started this one, where the caller knows it. If that
    process died between the fork and this call, this process exits with 1: nothing needs it.
    """
    if _LIBC is None:
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, with_signal)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
