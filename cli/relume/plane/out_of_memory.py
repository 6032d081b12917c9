"""Whether a predictor ended because memory was missing, which its exit code alone does not say."""

import re
import signal
from contextlib import suppress
from pathlib import Path

from relume.base.vocabulary import OUT_OF_MEMORY

_LOG_BYTES = 64 * 1024
# What PyTorch, vLLM, Python, glibc and CUDA write where an allocation fails.
_NO_MEMORY = re.compile(
    rb"[^\n]*(?:OutOfMemoryError|out of memory|can't allocate memory|Cannot allocate memory"
    rb"|std::bad_alloc|\bMemoryError\b|No available memory for the cache blocks"
    rb"|less than (?:desired \w+|requested) memory)[^\n]*"
)
#: Written by vLLM's server when the process of its engine is gone; the last while it loads.
ENGINE_DIED = re.compile(
    rb"EngineDeadError|Engine core proc \w+ died|EngineCore died"
    rb"|Failed core proc\(s\): \{[^}\n]*: -9\b"
)


def oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory; None: it does not tell."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def ended_for_memory(code: int, kills_before: int | None, log: Path) -> str | None:
    """Say in a sentence that memory was missing; None: nothing tells that it was.

    `code` is the exit code of a process that nobody here has killed, `kills_before` what
    `oom_kills` said when it was started.
    """
    if code == 0:
        return None
    written = end_of(log)
    kills = oom_kills()
    killed = kills is not None and kills_before is not None and kills > kills_before
    if killed and (code == -signal.SIGKILL or ENGINE_DIED.search(written)):
        return f"{OUT_OF_MEMORY}: the kernel killed the predictor, because memory was short"
    found = _NO_MEMORY.findall(written) if code != -signal.SIGKILL else []
    if found:
        said = found[-1].decode(errors="replace").strip()[-300:]
        return f"{OUT_OF_MEMORY}: {said}"
    return None


def end_of(log: Path) -> bytes:
    """Return the last 64 KiB of a log; nothing where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - _LOG_BYTES, 0))
            return file.read()
    except OSError:
        return b""
