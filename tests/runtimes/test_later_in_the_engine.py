"""What an engine core does after its start, and what is said where it ends before that."""

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relume.base.free_memory import tightest
from relume.base.vocabulary import OUT_OF_MEMORY
from relume.plane.out_of_memory import ended_for_memory
from relume.runtimes import internals, kv_memory
from relume.runtimes.early_core import _Started
from relume.runtimes.grammar_tokenizer import loaded_when_used
from tests.base.control_groups import GIB, Kernel

_BYTES = 8 << 20
_MANAGER = """
class Manager:
    def __init__(self, config, skip=False):
        if not skip:
            self.tokenizer = cached_tokenizer_from_config(model_config=config)
"""


def test_a_tokenizer_is_loaded_at_its_first_use_and_once() -> None:
    loads: list[str] = []

    def load(*, model_config: str) -> str:
        loads.append(model_config)
        return f"tokenizer of {model_config}"

    names: dict[str, Any] = {"cached_tokenizer_from_config": load}
    exec(_MANAGER, names)
    names["Manager"].__init__ = loaded_when_used(names["Manager"].__init__)

    manager, without = names["Manager"]("a model"), names["Manager"]("another", skip=True)
    assert names["cached_tokenizer_from_config"] is load
    assert loads == []
    assert [manager.tokenizer, manager.tokenizer] == ["tokenizer of a model"] * 2
    assert loads == ["a model"]
    assert not hasattr(without, "tokenizer")


def test_another_release_of_vllm_is_left_alone() -> None:
    for wrap in (loaded_when_used, kv_memory.filled_later()):
        with pytest.raises(AttributeError):
            wrap(lambda *_: None)


def test_an_error_of_the_load_is_not_taken_for_a_manager_without_a_tokenizer() -> None:
    def load(*, model_config: str) -> str:
        raise KeyError(model_config)

    names: dict[str, Any] = {"cached_tokenizer_from_config": load}
    exec(_MANAGER, names)
    names["Manager"].__init__ = loaded_when_used(names["Manager"].__init__)
    with pytest.raises(KeyError, match="a model"):
        _ = names["Manager"]("a model").tokenizer


class _Buffer:
    """What torch makes of a buffer."""

    def __init__(self, memory: mmap.mmap, dtype: str) -> None:
        self.memory = memory
        self.nbytes = len(memory)

    def data_ptr(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory))


def _torch() -> SimpleNamespace:
    return SimpleNamespace(
        int8="int8",
        device=lambda name: SimpleNamespace(type=name),
        frombuffer=_Buffer,
        zeros=lambda *size, **_: ("zeros", *size),
    )


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_the_pages_of_a_large_cache_come_later_and_keep_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: dict[str, Any] = {"torch": (torch := _torch())}
    exec("def allocate(n, on): return torch.zeros(n, dtype=torch.int8, device=on)", names)
    allocate = kv_memory.filled_later(never=True)(names["allocate"])
    assert allocate(_BYTES, "cuda") == ("zeros", _BYTES)
    assert allocate(1000, "cpu") == ("zeros", 1000)

    buffer = allocate(_BYTES, "cpu")
    assert names["torch"] is torch
    buffer.memory[5] = 7
    assert _resident(buffer) < _BYTES
    monkeypatch.setattr(kv_memory, "_AFTER_S", 0.0)
    kv_memory._fill(buffer, kv_memory.check(_BYTES))
    assert _resident(buffer) == _BYTES
    assert buffer.memory[:7] == b"\0\0\0\0\0\7\0"


class _Pauses(list[float]):
    """The pauses that were made, in seconds; none takes time."""

    def __init__(self) -> None:
        self.then: Callable[[], object] = lambda: None

    def sleep(self, pause_s: float) -> None:
        self.append(pause_s)
        self.then()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> _Pauses:
    made = _Pauses()
    monkeypatch.setattr(kv_memory, "time", made)
    return made


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: _Pauses) -> Kernel:
    """A kernel that a test writes, and no page of a cache is ever filled."""
    made = Kernel(tmp_path)
    monkeypatch.setattr(kv_memory, "tightest", lambda _: tightest(made.proc))
    monkeypatch.setattr(kv_memory, "_fill", lambda _, promise: promise.close())
    return made


def _allocate() -> Callable[[int], _Buffer]:
    names: dict[str, Any] = {"torch": _torch()}
    exec("def allocate(n): return torch.zeros(n, dtype=torch.int8, device='cpu')", names)
    return kv_memory.filled_later()(names["allocate"])


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_cache_that_cannot_be_filled_fails_the_start_and_names_the_fields(
    kernel: Kernel, tmp_path: Path
) -> None:
    kernel.mount(2, own="/pod/container")
    kernel.v2("/pod", 8 * GIB, 6 * GIB, cache=GIB)
    with pytest.raises(MemoryError, match=r"KV cache takes 4Gi, and .*/pod has 3Gi left") as error:
        _allocate()(4 * GIB)
    for field in ("--kv-cache-memory-bytes", "VLLM_CPU_KVCACHE_SPACE", "limits.memory"):
        assert field in str(error.value)
    log = tmp_path / "log"
    log.write_text(
        f"(EngineCore pid=7) ERROR 11-29 12:00:00 [core.py:1] MemoryError: {error.value}"
    )
    assert OUT_OF_MEMORY in str(ended_for_memory(1, None, log))
    assert _allocate()(2 * GIB).nbytes == 2 * GIB  # for which the page cache gives way


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_what_another_engine_has_still_to_fill_is_not_given_twice(kernel: Kernel) -> None:
    kernel.machine(16 * GIB, 5 * GIB)
    mine = "0000: 00000002 00000000 00000000 0002 01 1235 @relume-kv-cache/8/3/"
    (kernel.proc / "net/unix").write_text(
        f"Num Path\n0000: 00000002 00000000 00000000 0002 01 1234 @relume-kv-cache/7/3/{3 * GIB}\n"
        f"0000: 00000002 00000000 00000000 0002 01 1236\n{mine}{GIB}\n"
    )
    kv_memory.check(GIB, kernel.proc).close()
    (kernel.proc / "net/unix").write_text(f"{mine}{3 * GIB}\n{mine}{2 * GIB} \n")
    with pytest.raises(MemoryError, match=r"takes 2Gi, and this machine has 2Gi left"):
        kv_memory.check(2 * GIB, kernel.proc)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_memory_that_an_ended_process_still_holds_is_waited_for(
    kernel: Kernel, pauses: _Pauses
) -> None:
    kernel.machine(16 * GIB, 2 * GIB)
    seen: list[int] = []

    def free() -> None:
        seen.append(kv_memory.promised())
        if len(pauses) == 5:
            kernel.machine(16 * GIB, 6 * GIB)

    pauses.then = free
    before = kv_memory.promised()
    kv_memory.check(4 * GIB, kernel.proc).close()
    assert seen == [before] * 5, "one that waits keeps nothing from another one"
    kernel.machine(16 * GIB, 2 * GIB)
    pauses.clear()
    pauses.then = lambda: None
    with pytest.raises(MemoryError, match="this machine has 2Gi left"):
        kv_memory.check(4 * GIB, kernel.proc)
    assert 2 <= sum(pauses) < 2.2


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_what_another_engine_takes_from_its_own_control_group_is_waited_for(
    kernel: Kernel, pauses: _Pauses
) -> None:
    """Containers of one pod, and those that use the host's network, see each other's promises."""
    kernel.mount(2, own="/mine")
    kernel.v2("/mine", 6 * GIB, GIB)
    mine = f"0000: 00000002 00000000 00000000 0002 01 1235 @relume-kv-cache/8/3/{4 * GIB}\n"
    other = f"0000: 00000002 00000000 00000000 0002 01 1234 @relume-kv-cache/1/3/{4 * GIB}\n"
    (kernel.proc / "net/unix").write_text(mine + other)
    pauses.then = lambda: sum(pauses) > 5 and (kernel.proc / "net/unix").write_text(mine)
    kv_memory.check(4 * GIB, kernel.proc).close()
    assert sum(pauses) > 5
    pauses.clear()
    pauses.then = lambda: None
    (kernel.proc / "net/unix").write_text(mine + other)
    with pytest.raises(MemoryError, match=r"/mine has 1Gi left"):
        kv_memory.check(4 * GIB, kernel.proc)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_kernel_that_does_not_overcommit_is_told_by_field_too(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match=r"the KV cache of 1Gi: .*--kv-cache-memory-bytes"):
        _allocate()(GIB)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_promise_is_seen_by_other_processes_until_it_is_kept() -> None:
    before = kv_memory.promised()
    promise = kv_memory._Promise(5 << 20)
    assert kv_memory.promised() == before + (5 << 20)
    assert os.getpgrp() in kv_memory.filling()
    promise.keep(1 << 20)
    assert kv_memory.promised() == before + (1 << 20)
    promise.close()
    assert kv_memory.promised() == before
    assert os.getpgrp() not in kv_memory.filling()


def test_vllm_does_not_count_the_page_cache_of_its_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[int | None] = [3 * GIB, GIB, None]
    module = SimpleNamespace(get_cgroup_memory_usage=lambda: found.pop(0))
    monkeypatch.setitem(sys.modules, "vllm.utils.cpu_resource_utils", module)
    monkeypatch.setattr(internals, "page_cache", lambda: 2 * GIB)
    internals.page_cache_is_free()
    assert [module.get_cgroup_memory_usage() for _ in range(3)] == [GIB, 0, None]


def _resident(buffer: _Buffer) -> int:
    """Bytes of the buffer that are in memory; the kernel may map other memory beside it."""
    pages = mmap.PAGESIZE
    first, count = buffer.data_ptr() // pages, buffer.nbytes // pages
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(first * 8)
        entries = file.read(count * 8)
    return sum(entry >> 7 for entry in entries[7::8]) * pages


def test_a_core_that_has_ended_before_it_is_told_to_serve_is_named_as_vllm_would() -> None:
    class Gone:
        def serve(self, kwargs: object) -> None:
            raise BrokenPipeError

    with pytest.raises(RuntimeError, match="EngineCore died"):
        _Started(Gone(), {}).start()  # type: ignore[arg-type]
