"""The weights are asked for before they are needed, whole, and only where they will stay."""

import os
from pathlib import Path

import pytest

from relume.runtimes import read_ahead


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and length of each part that the kernel was asked to read."""
    parts: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, at, size, __: parts.append((at, size)))
    return parts


def test_each_file_is_asked_for_without_a_gap(tmp_path: Path, asked: list[tuple[int, int]]) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(300 << 10))
    (tmp_path / "tokenizer.json").write_bytes(bytes(300 << 10))
    assert read_ahead.advise(tmp_path) == 300 << 10
    assert asked == [(at << 10, 128 << 10) for at in (0, 128, 256)]


def test_weights_that_would_not_stay_in_memory_are_left_on_the_disk(
    tmp_path: Path, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(300 << 10))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 100))
    assert read_ahead.advise(tmp_path) == 0
    assert asked == []


def test_a_file_that_is_gone_is_the_engines_to_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "nowhere")
    assert read_ahead.advise(tmp_path) == 0
