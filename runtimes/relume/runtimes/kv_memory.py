"""The KV cache of an engine on a CPU, which is filled with zeros after the start and not in it.

vLLM allocates it with zeros in every page: 512 MiB that a start waits for (0.15 s). The kernel
gives the same zeros at the first write to a page. A moment after the start all pages are asked for.
The process then holds as much memory as it ever will, which the plane measures to decide which
replicas fit into memory together.
"""

import ctypes
import mmap
import sys
import threading
import time
from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any

# What is smaller is faster to fill than to map.
_AT_LEAST = 1 << 20
#: Seconds from the allocation until the pages are asked for: the first token comes before.
_AFTER_S = 3.0
# The kernel lets no other thread map memory while it fills one piece: some milliseconds.
_PIECE = 16 << 20
_MADV_POPULATE_WRITE = 23


def filled_later(*, never: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How to wrap vLLM's `allocate_kv_cache`; see `relume.runtimes.internals`.

    The wrapping raises AttributeError where this release of vLLM allocates in another way.

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
        # Private, so that a fork writes to pages of its own.
        memory = mmap.mmap(-1, size[0], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer = torch.frombuffer(memory, dtype=torch.int8)
        if not self._never:
            threading.Thread(target=_fill, args=(buffer,), name="kv-cache", daemon=True).start()
        return buffer


def _fill(buffer: Any) -> None:
    """Ask for all pages of the buffer, which keeps what they hold; needs Linux 5.14."""
    if sys.platform != "linux":
        return
    time.sleep(_AFTER_S)
    libc = ctypes.CDLL(None)
    start, length = buffer.data_ptr(), buffer.nbytes
    for at in range(start, start + length, _PIECE):
        piece = min(_PIECE, start + length - at)
        libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(piece), _MADV_POPULATE_WRITE)
