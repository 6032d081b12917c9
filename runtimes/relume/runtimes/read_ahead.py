"""Let the kernel read a model's weights while Python imports vLLM.

On a node that has not served the model yet, the weights would otherwise be read from the disk
after seconds in which the disk had nothing to do.
"""

import os
from pathlib import Path

#: The largest part of the free memory that weights are read into before anybody asks for them.
_PART = 0.5
# Linux reads at most its own read-ahead window for each advice, whatever was asked for.
_STEP = 128 << 10


def start(folder: Path | None) -> None:
    """Ask for the weights in `folder` in a process of its own, which ends by itself."""
    if folder is not None and os.fork() == 0:
        try:
            advise(folder)
        finally:
            os._exit(0)


def advise(folder: Path) -> int:
    """Ask the kernel to read the weights in `folder` into the page cache; the bytes asked for.

    None where they would not stay, because they are more than half of the memory that is free, and
    none that cannot be read: the engine says why.
    """
    asked = 0
    try:
        sizes = {file: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))}
        if sum(sizes.values()) > _PART * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            return 0
        for file, size in sizes.items():
            with file.open("rb") as weights:
                for at in range(0, size, _STEP):
                    os.posix_fadvise(weights.fileno(), at, _STEP, os.POSIX_FADV_WILLNEED)
            asked += size
    except OSError:
        pass
    return asked
