"""A predictor is forked from the template unless a variable counts when vLLM is imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from relume.runtimes.spawn import FreshLauncher, Template, TemplateLauncher


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        ({}, True),
        ({"OWN": "1"}, True),
        ({"HF_TOKEN": "t"}, True),
        ({"HF_TOKEN": "t", "HF_HUB_OFFLINE": "0"}, False),
        ({"HF_TOKEN_PATH": "/x"}, False),
        ({"VLLM_LOGGING_LEVEL": "DEBUG"}, False),
    ],
)
async def test_a_token_is_read_when_it_is_used_and_other_variables_at_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], asked: bool
) -> None:
    calls: list[str] = []

    async def ready(_: Template) -> bool:
        calls.append("template")
        return False

    async def start(
        _: FreshLauncher, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> None:
        calls.append("fresh")

    monkeypatch.setattr(Template, "ready", ready)
    monkeypatch.setattr(FreshLauncher, "start", start)
    launcher = TemplateLauncher(Template(tmp_path / "socket", tmp_path / "log"))
    await launcher.start(argv=[], env=env, log_path=tmp_path / "log")
    assert calls == (["template"] if asked else []) + ["fresh"]
