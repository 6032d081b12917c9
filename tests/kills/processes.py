"""The processes of a plane as the kernel shows them: who is whose child, stopped, killed, gone."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_LISTENS = "0A"  # the state of a listening socket in /proc/net/tcp
LAUNCHER, TEMPLATE, FUNCTION = "relume.runtimes.launcher", "--template", "function/serve.py"


def children(pid: int) -> list[int]:
    """The children of a process, the oldest first; quicker than a look at all processes."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return sorted(found, key=_started)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that came from it."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def command(pid: int) -> str:
    """The command line of a process; nothing where it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def lives(pid: int) -> bool:
    """Whether the process runs; what waits for its parent to take note of its end does not.

    The first thread may have ended while others still hold what is open.
    """
    with suppress(OSError, IndexError):
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state not in "ZX" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    return False


def listening_ports(pid: int) -> list[int]:
    """The TCP ports that a process, or who gave it the socket, listens on."""
    with suppress(OSError):
        sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in lines]
        return [
            int(row[1].partition(":")[2], 16)
            for row in rows
            if row[3] == _LISTENS and f"socket:[{row[9]}]" in sockets
        ]
    return []


def gatekeeper_and_core(server: int) -> tuple[int | None, int | None]:
    """The children of a predictor's server: who holds the port, and the engine's core.

    The core has closed the port. Who reads the weights ahead in a fresh start has ended soon.
    """
    running = [pid for pid in children(server) if lives(pid) and _has_files(pid)]
    ports = set(listening_ports(server))
    holding = [pid for pid in running if ports & set(listening_ports(pid))]
    others = [pid for pid in running if pid not in holding]
    return (holding[0] if holding else None), (others[-1] if others else None)


@contextmanager
def stopped(*pids: int | None) -> Iterator[None]:
    """Let these processes stand still while the block runs; one that is gone is left out."""
    there = [pid for pid in pids if pid is not None]
    _signal(there, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(there, signal.SIGCONT)


def kill(pid: int) -> None:
    """SIGKILL: no warning."""
    os.kill(pid, signal.SIGKILL)


def until(reached: Callable[[], object], within_s: float, every_s: float = 0.02) -> bool:
    """Whether it came true in that time."""
    end = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


def left_of(processes: Sequence[psutil.Process], within_s: float) -> list[str]:
    """Those that still run after that time, as people know them."""

    def running() -> list[psutil.Process]:
        return [each for each in processes if each.is_running() and lives(each.pid)]

    until(lambda: not running(), within_s)
    return [f"{each.pid} {command(each.pid)[:100]}" for each in running()]


def _has_files(pid: int) -> bool:
    """Whether anything is open in it: a process that is ending has closed all."""
    with suppress(OSError):
        return any(Path(f"/proc/{pid}/fd").iterdir())
    return False


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _started(pid: int) -> tuple[int, int]:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]), pid
    return 0, pid
