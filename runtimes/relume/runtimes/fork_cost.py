"""What a large process and its forks cost, made less: memory that is given back, and huge pages.

A fork copies the page table of all that the process holds: 40 ms for 1.2 GB in pages of 4 KiB,
9 ms when most of it lies in pages of 2 MiB. All calls need Linux; elsewhere nothing happens.
"""

import ctypes
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_MADV_DONTNEED = 4
_MADV_COLLAPSE = 25
_CHUNK = 8 << 20
# Writable, private and of no file: a library's data and files that are mapped stay as they are.
_ANONYMOUS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.p \S+ \S+ 0 *(\[heap\])?$")
# An area of a file that this process cannot write: a library's code, or data that it only reads.
_OF_A_FILE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ (\d+) +/(?!dev/)")
_IN_USE = re.compile(r"(?:Anonymous|Swap): +(\d+) kB")


def zero(areas: Iterable[tuple[int, int]]) -> None:
    """Give back the whole pages of (address, bytes) that hold zeros; they are zeros when read.

    The areas must lie in private memory that belongs to no file, as all of malloc's does.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    for start, length in areas:
        first = -(-start // page) * page
        _advise(first, (start + length - first) // page * page, _MADV_DONTNEED)


def trim() -> None:
    """Give back what malloc keeps of memory that was freed."""
    with suppress(AttributeError):  # another C library than glibc
        if _LIBC is not None:
            _LIBC.malloc_trim(0)


def forget_files() -> int:
    """Unmap the pages of files that this process has only read; the bytes that were unmapped.

    They stay in the kernel's page cache, which gives them back when they are read again, and a fork
    maps its own in any case. Areas of which a page was changed are left alone: the linker writes
    addresses into some, and those pages are in no file.
    """
    forgotten = 0
    for start, length, resident in _files():
        _advise(start, length, _MADV_DONTNEED)
        forgotten += resident
    return forgotten


def _files() -> Iterator[tuple[int, int, int]]:
    """Address, bytes and resident bytes of each area of a file of which no page was changed."""
    try:
        text = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for area in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", text):
        found = _OF_A_FILE.match(area)
        changed = [int(kilobytes) for kilobytes in _IN_USE.findall(area)]
        resident = re.search(r"^Rss: +(\d+) kB", area, re.MULTILINE)
        # hugetlbfs counts its pages nowhere here, changed or not; an area of it has no Rss.
        rss = int(resident[1]) if resident else 0
        if found and int(found[3]) and len(changed) == 2 and not any(changed) and rss:
            start = int(found[1], 16)
            yield start, int(found[2], 16) - start, rss << 10


def collapse(without: Iterable[tuple[int, int]] = ()) -> Iterator[None]:
    """Put this process's memory into huge pages, a piece of some 20 ms at each step.

    `without`: areas (address, bytes) that must stay as they are: pages that were given back would
    take memory again, and those that are shared with a parent would be copied.
    """
    kept = [(start, start + length) for start, length in without]
    for start, length in areas():
        end = start + length
        for at in range(start, end, _CHUNK):
            until = min(at + _CHUNK, end)
            if not any(at < stop and begin < until for begin, stop in kept):
                _advise(at, until - at, _MADV_COLLAPSE)
                yield


def areas() -> Iterator[tuple[int, int]]:
    """Address and bytes of each area of this process's own memory."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return
    for line in lines:
        if found := _ANONYMOUS.match(line):
            yield int(found[1], 16), int(found[2], 16) - int(found[1], 16)


def _advise(start: int, length: int, advice: int) -> None:
    """madvise(2), whose refusal changes nothing: an old kernel, or an area that is not whole."""
    if _LIBC is not None and length > 0:
        _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
