"""The KV cache of an engine on a CPU, which is filled with zeros after the start and not in it.

vLLM allocates it with zeros in every page: 512 MiB that a start waits for (0.15 s). The kernel
gives the same zeros at the first write to a page. A moment after the start all pages are asked for.
The process then holds as much memory as it ever will, which the plane measures to decide which
replicas fit into memory together.

The kernel kills a process that writes to a page for which there is no memory. Requests would have
been accepted by then, so the start fails where the pages cannot be had (`check`). Other engines may
have pages to come too, and each says so by a socket (`_Promise`).
"""

import ctypes
import mmap
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from inspect import unwrap
from pathlib import Path
from typing import Any

from relume.base.free_memory import PROC, tightest
from relume.base.sizes import written

# What is smaller is faster to fill than to map.
_AT_LEAST = 1 << 20
#: Seconds from the allocation until the pages are asked for: the first token comes before.
_AFTER_S = 3.0
# The kernel lets no other thread map memory while it fills one piece: some milliseconds.
_PIECE = 16 << 20
_MADV_POPULATE_WRITE = 23
# What must be left for the first request.
_REST = 32 << 20
# Seconds for which a start that finds too little looks again. An ended process is waited for
# before all of its memory is free, and what others have promised to take may be in another control
# group: only when they have taken it does this one's counter tell.
_FREED_WITHIN_S = 2.0
_TAKEN_WITHIN_S = 30.0
_NAME = "relume-kv-cache"
_LESS = "lower --kv-cache-memory-bytes or VLLM_CPU_KVCACHE_SPACE, or raise limits.memory"


def filled_later(*, never: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How to wrap vLLM's `allocate_kv_cache`; see `relume.runtimes.internals`.

    The wrapping raises AttributeError where this release of vLLM allocates in another way, and the
    allocation raises MemoryError as `check` does.

    never: for a process that will be forked. It must have no thread then, and its pages would be
    copied; in its forks, a page is filled by the first write to it.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        names = unwrap(original).__globals__
        if "torch" not in names:
            raise AttributeError(f"{original.__module__} has no torch")

        @wraps(original)
        def allocate(*args: Any, **kwargs: Any) -> Any:
            torch = names["torch"]
            names["torch"] = _Torch(torch, never)
            try:
                return original(*args, **kwargs)
            finally:
                names["torch"] = torch

        return allocate

    return wrap


class _Torch:
    """The module torch, but for large zeros in a CPU's memory."""

    def __init__(self, torch: Any, never: bool) -> None:
        self._torch = torch
        self._never = never

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def zeros(self, *size: Any, **kwargs: Any) -> Any:
        torch = self._torch
        bytes_ = set(kwargs) == {"dtype", "device"} and kwargs["dtype"] == torch.int8
        on_cpu = bytes_ and torch.device(kwargs["device"]).type == "cpu"
        if not on_cpu or len(size) != 1 or not isinstance(size[0], int) or size[0] < _AT_LEAST:
            return torch.zeros(*size, **kwargs)
        promise = None if self._never else check(size[0])
        try:
            # Private, so that a fork writes to pages of its own.
            memory = mmap.mmap(-1, size[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:  # a limit of addresses, or a kernel that does not overcommit
            raise MemoryError(f"the KV cache of {written(size[0])}: {error}: {_LESS}") from error
        buffer = torch.frombuffer(memory, dtype=torch.int8)
        if promise is not None:
            work = threading.Thread(
                target=_fill, args=(buffer, promise), name="kv-cache", daemon=True
            )
            work.start()
        return buffer


def check(size: int, proc: Path = PROC) -> "_Promise":
    """Promise to take this many bytes, which others who call this then leave alone.

    It takes a millisecond or two where they can be had, from the machine and from each control
    group, beside what others have promised to take. Otherwise it looks again for a while, and then
    raises MemoryError.
    """
    waited_s = 0.0
    while True:
        # First, so that of two that start at once none overlooks the other.
        promise = _Promise(size)
        least, others = tightest(proc), max(promised(proc) - size, 0)
        if least is None or size + others + _REST <= least.free + least.swap:
            return promise
        promise.close()  # while this one waits, another one may start
        if waited_s >= (_TAKEN_WITHIN_S if others else _FREED_WITHIN_S):
            left = max(least.free + least.swap - others, 0)
            raise MemoryError(
                f"the KV cache takes {written(size)}, and {least.of} has {written(left)} left: "
                f"{_LESS}"
            )
        pause_s = random.SystemRandom().uniform(0.05, 0.15)  # not in step with another one
        time.sleep(pause_s)
        waited_s += pause_s


def promised(proc: Path = PROC) -> int:
    """The bytes that engines on this machine (in this pod) will ask for in the next seconds."""
    return sum(size for _, size in _promises(proc))


def filling() -> set[int]:
    """The leaders of the process groups with an engine that has pages to ask for."""
    found = set()
    for pid, _ in _promises(PROC):
        with suppress(OSError):  # it has ended
            found.add(os.getpgid(pid))
    return found


def _promises(proc: Path) -> list[tuple[int, int]]:
    """The process and the bytes of each promise."""
    with suppress(OSError, ValueError):
        names = (proc / "net/unix").read_text(errors="replace").split(f" @{_NAME}/")[1:]
        parts = (name.split(maxsplit=1)[0].split("/") for name in names)
        return [(int(pid), int(size)) for pid, _, size in parts]
    return []


class _Promise:
    """The bytes that this process will ask for, in the name of a socket that nobody connects to.

    An abstract name is in no folder, all processes of the network namespace can read it, and the
    kernel drops it when its process ends.
    """

    def __init__(self, size: int) -> None:
        self._socket: socket.socket | None = None
        self.keep(size)

    def keep(self, size: int) -> None:
        """From now on it is this many bytes."""
        old, self._socket = self._socket, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(OSError):  # elsewhere than on Linux there are no abstract names
            self._socket.bind(f"\0{_NAME}/{os.getpid()}/{self._socket.fileno()}/{size}")
        if old is not None:
            old.close()

    def close(self) -> None:
        """All of it was asked for, or nothing will be."""
        if self._socket is not None:
            self._socket.close()


def _fill(buffer: Any, promise: _Promise) -> None:
    """Ask for all pages of the buffer, which keeps what they hold; needs Linux 5.14."""
    if sys.platform != "linux":
        return
    time.sleep(_AFTER_S)
    libc = ctypes.CDLL(None)
    start, length = buffer.data_ptr(), buffer.nbytes
    for at in range(start, start + length, _PIECE):
        piece = min(_PIECE, start + length - at)
        libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(piece), _MADV_POPULATE_WRITE)
        promise.keep(start + length - at - piece)
    promise.close()
