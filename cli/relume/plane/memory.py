"""Memory on this machine: how much there is for models, what each needs, and what each holds.

A need is estimated until a process was loaded, as that of a replica is some seconds after it is
ready. From then on it is the largest proportional set size (PSS: a page that n processes share
counts 1/n) of a replica's processes together. What a process holds while it loads counts only where
it is more.
"""

import argparse
import asyncio
import contextlib
import functools
import importlib.metadata
import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relume.base.errors import InvalidManifest
from relume.base.free_memory import bounds
from relume.base.sizes import written
from relume.config import Function, InferenceService, Plan
from relume.config.resources import Origin
from relume.runtimes.models.store import ModelStore
from relume.runtimes.settings import CPU_KV_CACHE_BYTES

MIB = 1 << 20
#: Seconds that a service waits for memory before a busy one has to make room for it.
MEMORY_WAIT_S = 20.0
#: What `relume up` leaves to itself, to nats-server and to everything else: 10 % of the memory, and
#: at least this.
RESERVE_BYTES = 512 * MIB
#: One process of vLLM beside its weights and its KV cache: with SmolLM2-135M in vLLM 0.32 for CPUs
#: 880 to 930 MB were measured.
PROCESS_BYTES = 900 * MIB
#: The warm template, until it was measured: 395 MB in the same release while it imports.
TEMPLATE_BYTES = 400 * MIB
#: A function whose manifest sets no limit.
FUNCTION_BYTES = 128 * MIB

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def machine_bytes() -> int | None:
    """What models may have where the user names no budget; None where the system does not tell.

    That is what is free now, of the machine and of each control group that this process is in,
    without a reserve of a tenth and at least 512Mi.
    """
    if not (found := bounds()):
        return None
    total, free = min(each.total for each in found), min(each.free for each in found)
    return max(free - max(total // 10, RESERVE_BYTES), RESERVE_BYTES)


def estimate(service: InferenceService | Function, store: ModelStore) -> int:
    """What one replica needs, before any was measured.

    A model on a CPU needs its weights as they lie on the disk, its KV cache and a process; on
    another device the first two lie there. Raises ModelMissing.
    """
    if isinstance(service, Function):
        return service.memory_bytes or FUNCTION_BYTES
    if not _runs_on_cpu():
        return PROCESS_BYTES
    folder = store.resolve(service.storage_uri) / service.folder
    weights = sum(_size(each) for each in folder.rglob("*") if each.suffix in _WEIGHTS)
    return weights + kv_cache_bytes(service) + PROCESS_BYTES


def _size(file: Path) -> int:
    """The bytes of a file; 0 where a link leads to none, which a start of the model says."""
    with contextlib.suppress(OSError):
        return file.stat().st_size
    return 0


def kv_cache_bytes(service: InferenceService) -> int:
    """What the arguments and the environment of a service give to its KV cache on a CPU."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kv-cache-memory-bytes", "--kv-cache-memory", dest="bytes")
    parser.add_argument("--gpu-memory-utilization", dest="share")
    words = [_with_dashes(word) for word in service.args]
    try:
        given = parser.parse_known_args(words)[0]
    except argparse.ArgumentError:
        return CPU_KV_CACHE_BYTES
    gigabytes = {**os.environ, **service.env}.get("VLLM_CPU_KVCACHE_SPACE", "")
    if gigabytes.isdecimal():  # on a CPU vLLM lets it win over the flag
        return _whole(float(gigabytes) * 1024**3)
    if given.bytes and (found := _AMOUNT.fullmatch(given.bytes)):
        scale = 1000 if found[2].islower() else 1024  # as vLLM reads them
        return _whole(float(found[1]) * scale ** _POWERS[found[2].lower()])
    with contextlib.suppress(TypeError, ValueError):
        if 0 < (share := float(given.share)) <= 1:  # vLLM refuses other shares when it starts
            return int(share * min((each.total for each in bounds()), default=0))
    return CPU_KV_CACHE_BYTES


def _whole(amount: float) -> int:
    """The amount in whole bytes; one of hundreds of digits is as much more than there is."""
    return int(min(amount, 2.0**60))


def _with_dashes(word: str) -> str:
    name, equals, value = word.partition("=")
    return (name.replace("_", "-") if name.startswith("--") else name) + equals + value


@functools.cache
def _runs_on_cpu() -> bool:
    """Whether the vLLM that is installed is a build for CPUs."""
    for name in ("vllm-cpu", "vllm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return name == "vllm-cpu" or "+cpu" in importlib.metadata.version(name)
    return True


@dataclass(frozen=True, slots=True)
class TooMuch:
    """A service whose minimum does not fit, where that is written, and why in words."""

    service: InferenceService | Function
    at: Origin
    why: str


def check_minimum(plan: Plan, store: ModelStore, budget: int | None) -> None:
    """Check that the replicas that are always there fit the budget together.

    Raises InvalidManifest at the first minimum that does not fit beside those before it.
    """
    if (found := over_budget(plan, store, budget)) is not None:
        at = found.at
        raise InvalidManifest(found.why, file=at.file, line=at.line, field=at.field)


def over_budget(plan: Plan, store: ModelStore, budget: int | None) -> TooMuch | None:
    """Return the first minimum that does not fit the budget beside those before it.

    Raises ModelMissing for a model that is not in the store.
    """
    if budget is None:
        return None
    taken = 0
    services: tuple[InferenceService | Function, ...] = (*plan.services, *plan.functions)
    for service in services:
        if not service.min_replicas:
            continue
        need = estimate(service, store)
        taken += service.min_replicas * need
        at = _minimum_at(service)
        if taken > budget and at is not None:
            return TooMuch(
                service,
                at,
                f"{service.min_replicas} × {written(need)} are always there, which makes "
                f"{written(taken)} with the services before, and the memory budget is "
                f"{written(budget)}: write minReplicas: 0, or give --memory more",
            )
    return None


def _minimum_at(service: InferenceService | Function) -> Origin | None:
    if isinstance(service, InferenceService) and service.min_replicas_origin is not None:
        return service.min_replicas_origin
    return service.origin


class Footprints:
    """The largest that the processes of each name were seen to hold together."""

    def __init__(self) -> None:
        self._largest: dict[str, int] = {}
        self._loaded: set[str] = set()
        self._processes: dict[int, str] = {}

    def follow(self, name: str, pid: int) -> None:
        """Measure a process that leads a process group, as long as it runs."""
        self._processes[pid] = name

    def forget(self, name: str) -> None:
        """Drop what was measured; processes that still run are measured again."""
        self._largest.pop(name, None)
        self._loaded.discard(name)

    def need(self, name: str, estimated: Callable[[], int]) -> int:
        """The most that one of them held, and as long as none was loaded at least the estimate."""
        largest = self._largest.get(name, 0)
        return largest if name in self._loaded else max(largest, estimated())

    async def measure(self, loaded: Collection[int]) -> None:
        """Read the sizes now, which takes some ms for each GiB.

        loaded: the processes that hold all that they need.
        """
        held = await asyncio.to_thread(held_bytes, tuple(self._processes))
        for leader, size in held.items():
            if size == 0:
                self._processes.pop(leader, None)
            elif (name := self._processes.get(leader)) is not None:
                self._largest[name] = max(size, self._largest.get(name, 0))
                if leader in loaded:
                    self._loaded.add(name)


def held_bytes(leaders: Iterable[int]) -> Mapping[int, int]:
    """The bytes (PSS) of the process group of each leader; 0 where it is gone."""
    groups = process_groups()
    return {leader: sum(map(pss_bytes, groups.get(leader, ()))) for leader in leaders}


def process_groups() -> Mapping[int, list[int]]:
    """The processes of each process group, by its leader."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name, which may hold anything: state, parent, group.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            found[int(fields[2])].append(int(folder.name))
    return found


def pss_bytes(pid: int) -> int:
    """The proportional set size of one process; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
