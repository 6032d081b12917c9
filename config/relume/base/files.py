"""The bytes of a file that may be a pipe."""

import stat
from pathlib import Path

#: What came out of pipes, by device and inode: a pipe can be read only once, and a command may
#: need its manifests again, for the line of a mistake.
_PIPED: dict[tuple[int, int], bytes] = {}


def content(file: Path, most: int) -> bytes:
    """The bytes of `file`, `most` + 1 of them at most; the same again for a pipe.

    Raises OSError. A device such as /dev/zero has no end, so that whoever asks gives a bound.
    """
    found = file.stat()
    if not stat.S_ISFIFO(found.st_mode):
        with file.open("rb") as opened:
            return opened.read(most + 1)
    pipe = (found.st_dev, found.st_ino)
    if pipe not in _PIPED:
        with file.open("rb") as opened:
            _PIPED[pipe] = opened.read(most + 1)
    return _PIPED[pipe]
