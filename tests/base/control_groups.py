"""What a kernel tells of memory, as files in a folder: of the machine, and of control groups."""

from collections.abc import Mapping
from pathlib import Path

GIB = 1 << 30
_UNLIMITED_V1 = 9223372036854771712


class Kernel:
    """A `/proc` and control groups that a test writes, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self._groups = folder / "groups"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "net").mkdir()
        for name in ("self/cgroup", "self/mountinfo", "net/unix"):
            (self.proc / name).touch()
        self.machine(64 * GIB, 60 * GIB)

    def machine(self, total: int, available: int, swap: int = 0) -> None:
        facts = {"MemTotal": total, "MemAvailable": available, "SwapFree": swap}
        lines = (f"{name}: {amount // 1024} kB" for name, amount in facts.items())
        (self.proc / "meminfo").write_text("\n".join([*lines, "HugePages_Total: 0"]))

    def mount(self, version: int, *, root: str = "/", own: str = "/") -> None:
        """Mount groups of a version: `root` is the group that is mounted, `own` the process's."""
        kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", "rw,memory")
        with (self.proc / "self/mountinfo").open("a") as file:
            file.write(f"31 23 0:28 / / rw - tmpfs tmpfs rw\n40 31 0:37 {root} {self._groups} ")
            file.write(f"rw,nosuid shared:9 - {kind} {kind} {options}\n")
        with (self.proc / "self/cgroup").open("a") as file:
            file.write(f"0::{own}\n" if version == 2 else f"3:cpuset:/\n4:memory:{own}\n")

    def v2(self, path: str, limit: int | None, used: int, cache: int = 0, **more: int) -> None:
        """Write a group of version 2, in bytes; `more`: of swap."""
        stat = f"anon 7\nactive_file {cache}\ninactive_file 0\nslab_reclaimable 0"
        files: Mapping[str, object] = {
            "memory.max": "max" if limit is None else limit,
            "memory.current": used,
            "memory.stat": stat,
            **{f"memory.swap.{name}": amount for name, amount in more.items()},
        }
        self._write(path, files)

    def v1(self, path: str, limit: int | None, used: int, cache: int = 0) -> None:
        """Write a group of version 1, in bytes."""
        stat = f"inactive_file 5\ntotal_active_file 0\ntotal_inactive_file {cache}"
        files: Mapping[str, object] = {
            "memory.limit_in_bytes": _UNLIMITED_V1 if limit is None else limit,
            "memory.usage_in_bytes": used,
            "memory.stat": stat,
        }
        self._write(path, files)

    def _write(self, path: str, files: Mapping[str, object]) -> None:
        folder = self._groups / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(f"{content}\n")
