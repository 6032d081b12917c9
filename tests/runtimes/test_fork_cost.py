"""What a template gives back (`relume.runtimes.fork_cost`)."""

import ctypes
import mmap
import os
import re
import sys
from pathlib import Path

import pytest

from relume.runtimes import fork_cost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
_PAGES = 64


def test_pages_of_files_are_unmapped_unless_they_were_changed(tmp_path: Path) -> None:
    file = tmp_path / "library"
    file.write_bytes(b"read" * (_PAGES * mmap.PAGESIZE // 4))
    with file.open("rb") as opened:
        read = mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        changed = mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    changed[:5] = b"wrote"
    # As the linker does with the addresses that it has written.
    start = ctypes.addressof(ctypes.c_char.from_buffer(changed))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), len(changed), mmap.PROT_READ) == 0
    before = read[:], changed[:]
    assert _resident(file) == [_PAGES, _PAGES]

    assert fork_cost.forget_files() >= _PAGES * mmap.PAGESIZE

    assert sorted(_resident(file)) == [0, _PAGES]
    assert (read[:], changed[:]) == before


def test_a_file_whose_name_is_no_text_is_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"library-\xe9")
    file.write_bytes(b"read" * mmap.PAGESIZE)
    with file.open("rb") as opened:
        read = mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    assert read[:4] == b"read"
    assert fork_cost.forget_files() > 0
    assert list(fork_cost.areas())
    assert read[:4] == b"read"


def _resident(file: Path) -> list[int]:
    """Pages in memory of each mapping of `file`."""
    smaps = Path("/proc/self/smaps").read_text()
    found = re.findall(rf" {re.escape(str(file))}\n(?:.*\n)*?Rss: +(\d+) kB", smaps)
    return [int(kilobytes) * 1024 // mmap.PAGESIZE for kilobytes in found]
