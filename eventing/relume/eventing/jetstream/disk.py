"""How much room there is for the log of every Broker."""

import os
from pathlib import Path

from relume.eventing.settings import MIB

_MOST_BYTES = 256 * MIB
_SHARE = 0.05


class Disk:
    """The file system of a folder, with a reserve that producers may not use.

    What was accepted goes on into the reserve: replies, dead letters, what the log notes of
    deliveries. Without it a full disk could not be emptied by delivering.
    """

    def __init__(self, folder: Path, reserve_bytes: int | None = None) -> None:
        self._folder = folder
        self._reserve = reserve_bytes

    @property
    def free(self) -> int:
        """Bytes that this user may still write."""
        now = os.statvfs(self._folder)
        return now.f_bavail * now.f_frsize

    @property
    def reserve(self) -> int:
        """Bytes kept from producers: 256 MiB, or the twentieth part of a small file system."""
        if self._reserve is None:
            now = os.statvfs(self._folder)
            self._reserve = min(_MOST_BYTES, int(now.f_blocks * now.f_frsize * _SHARE))
        return self._reserve

    @property
    def full(self) -> bool:
        """Nothing new may be accepted."""
        return self.free < self.reserve

    @property
    def exhausted(self) -> bool:
        """So little is left that a write may have failed."""
        return self.free < self.reserve // 4

    def limit_for(self, store: Path) -> int:
        """How large `store` may grow: what it has, and all that is free but half of the reserve."""
        used = sum(each.stat().st_size for each in store.rglob("*") if each.is_file())
        return used + max(0, self.free - self.reserve // 2)
