"""A predictor is forked from the template unless something counts when vLLM is imported."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from relume.runtimes.spawn import FreshLauncher, Template, TemplateLauncher


@pytest.mark.parametrize(
    ("env", "argv", "asked"),
    [
        ({}, [], True),
        ({"OWN": "1"}, [], True),
        ({"HF_TOKEN": "t"}, [], True),
        ({"HF_TOKEN": "t", "HF_HUB_OFFLINE": "0"}, [], False),
        ({"HF_TOKEN_PATH": "/x"}, [], False),
        ({"VLLM_LOGGING_LEVEL": "DEBUG"}, [], False),
        ({}, ["--enforce-eager"], True),
        ({}, ["--no-enforce-eager"], False),
        ({}, ["-O3"], False),
    ],
)
async def test_variables_of_libraries_and_compilation_are_decided_at_the_import_and_a_token_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    argv: list[str],
    asked: bool,
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
    await launcher.start(argv=argv, env=env, log_path=tmp_path / "log")
    assert calls == (["template"] if asked else []) + ["fresh"]
