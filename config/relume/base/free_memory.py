"""What memory a process can still get: of the machine, and of each control group that it is in.

The page cache of files counts as free, because the kernel gives it up before it kills a process.
Both versions of control groups are read, with the groups around the process's own, and in a
container, whose own group is the root of what it sees. Needs Linux; elsewhere nothing is known.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Where the kernel tells of processes and of the machine.
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Bounded:
    """Memory that processes share, in bytes."""

    of: str
    """Whose it is, for people: `this machine`, or the folder of a control group."""
    total: int
    free: int
    """What can be had without taking memory away from a process."""
    swap: int
    """What can be had beyond `free`, because other memory is swapped out for it."""


@dataclass(frozen=True, slots=True)
class _Names:
    """How one version of control groups calls its files, and the fields of `memory.stat`."""

    limit: str
    used: str
    swap_limit: str
    swap_used: str
    reclaimable: tuple[str, ...]
    with_memory: bool
    """Whether the two names of swap count memory and swap together."""


_V1 = _Names(
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.memsw.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
    True,
)
_V2 = _Names(
    "memory.max",
    "memory.current",
    "memory.swap.max",
    "memory.swap.current",
    ("active_file", "inactive_file", "slab_reclaimable"),
    False,
)


def tightest(proc: Path = PROC) -> Bounded | None:
    """The memory of which a process gets the least, swap included; None: nothing tells."""
    found = bounds(proc)
    return min(found, key=lambda each: each.free + each.swap) if found else None


def bounds(proc: Path = PROC) -> list[Bounded]:
    """The machine first, then each control group with a limit that this process is in."""
    facts = _kilobytes(proc / "meminfo")
    if "MemTotal" not in facts or "MemAvailable" not in facts:
        return []
    swap = facts.get("SwapFree", 0)
    machine = Bounded("this machine", facts["MemTotal"], facts["MemAvailable"], swap)
    groups = (_group(folder, names, swap) for folder, names in _folders(proc))
    return [machine, *(group for group in groups if group is not None)]


def page_cache(proc: Path = PROC) -> int:
    """The bytes of the page cache in the outermost control group that this process sees."""
    return max((_reclaimable(*each) for each in _folders(proc)), default=0)


def _group(folder: Path, names: _Names, swap: int) -> Bounded | None:
    """A control group as far as it is limited; `swap`: what the machine has of it."""
    limit, used = _number(folder / names.limit), _number(folder / names.used)
    if limit is None or used is None:
        return None
    reclaimable = _reclaimable(folder, names)
    free = max(limit - used + reclaimable, 0)
    swap_limit, swap_used = _number(folder / names.swap_limit), _number(folder / names.swap_used)
    if swap_limit is not None and swap_used is not None:
        left = swap_limit - swap_used
        swap = min(swap, left + reclaimable - free if names.with_memory else left)
    return Bounded(f"the control group {folder}", limit, free, max(swap, 0))


def _reclaimable(folder: Path, names: _Names) -> int:
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return sum(int(amount) for name, amount in pairs if name in names.reclaimable)
    return 0


def _folders(proc: Path) -> Iterator[tuple[Path, _Names]]:
    """The process's own group and those around it, as far as they can be seen, inside out."""
    with suppress(OSError, ValueError):
        mounts = list(_mounts(proc))
        for line in (
            (proc / "self/cgroup")
            .read_text(encoding="utf-8", errors="surrogateescape")
            .splitlines()
        ):
            _, controllers, path = line.split(":", 2)
            names = _V1 if "memory" in controllers.split(",") else _V2
            if controllers and names is _V2:
                continue
            for root, at, kind in mounts:
                if kind != ("cgroup" if names is _V1 else "cgroup2"):
                    continue
                if _is_in(path, root):
                    own = at / Path(path).relative_to(root)
                elif ".." in Path(path).parts or ".." in Path(root).parts:
                    own = at  # outside the namespace: the process's own group cannot be seen
                else:
                    continue  # groups of others, which somebody has mounted too
                yield from ((each, names) for each in (own, *own.parents) if _is_in(each, at))


def _mounts(proc: Path) -> Iterator[tuple[str, Path, str]]:
    """The mounted group, the place and the kind of each hierarchy that may bound memory.

    See proc_pid_mountinfo(5): the kind stands after ` - `, then the source and the options.
    """
    for line in (
        (proc / "self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    ):
        mounted, _, system = line.partition(" - ")
        kind, _source, options = system.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            _, _, _, root, at, *_ = mounted.split()
            yield root, Path(at), kind


def _is_in(path: str | Path, root: str | Path) -> bool:
    """Whether the path is the root or below it; `..` in it leads to what is outside a container."""
    return Path(path).is_relative_to(root) and ".." not in Path(path).parts


def _number(file: Path) -> int | None:
    """The number in a file; None where there is none: `max`, or no such file."""
    with suppress(OSError, ValueError):
        return int(file.read_text(encoding="ascii"))
    return None


def _kilobytes(file: Path) -> Mapping[str, int]:
    """The amounts of a file as /proc/meminfo is, in bytes."""
    with suppress(OSError, ValueError):
        lines = file.read_text(encoding="ascii").splitlines()
        pairs = (line.split() for line in lines if line.endswith(" kB"))
        return {name.rstrip(":"): int(amount) * 1024 for name, amount, *_ in pairs}
    return {}
