"""What waits until it is used, and where (`relume.runtimes.unused`)."""

import sys

import pytest

from relume.runtimes import unused


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_modules_wait_where_vllm_is_built_for_a_cpu_alone(
    build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(unused, "is_cpu_build", lambda: build == "cpu")
    monkeypatch.setattr(unused, "version", lambda _name: f"{unused.TESTED}0")
    before = len(sys.meta_path)
    unused.put_off()
    assert len(sys.meta_path) - before == (build == "cpu")


def test_what_torch_would_compile_is_given_back_however_it_is_named() -> None:
    for given in (
        unused._unchanged(len),
        unused._unchanged(fn=len),
        unused._unchanged(model=len, dynamic=True),
        unused._unchanged(None, False)(len),
        unused._unchanged(recursive=False)(len),
    ):
        assert given is len
