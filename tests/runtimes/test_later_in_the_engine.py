"""What an engine core does after its start, and what is said where it ends before that."""

import ctypes
import mmap
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relume.runtimes import kv_memory
from relume.runtimes.early_core import _Started
from relume.runtimes.grammar_tokenizer import loaded_when_used

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
    kv_memory._fill(buffer)
    assert _resident(buffer) == _BYTES
    assert buffer.memory[:7] == b"\0\0\0\0\0\7\0"


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
