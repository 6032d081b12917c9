"""What the launcher adds to the user's flags and environment, and what it leaves alone."""

import json
import os
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from relume.runtimes import settings
from relume.runtimes.settings import (
    CPU_KV_CACHE_BYTES,
    DECODING,
    ENVIRONMENT,
    MIDDLEWARE,
    NO_COMPILATION,
    apply_environment,
    with_defaults,
)

KV = ["--kv-cache-memory-bytes", str(CPU_KV_CACHE_BYTES)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nobody has chosen anything."""
    for name in (*ENVIRONMENT, "VLLM_PLUGINS", "VLLM_CPU_KVCACHE_SPACE", NO_COMPILATION):
        monkeypatch.setenv(name, "")  # so that it is put back, whatever the code under test sets
        monkeypatch.delenv(name)


def flags(*argv: str, cpu: bool = True) -> list[str]:
    """The flags that are added to `argv`."""
    complete = with_defaults(argv, cpu=cpu)
    assert tuple(complete[len(complete) - len(argv) :]) == argv, "the user's flags come last, whole"
    return complete[: len(complete) - len(argv)]


def has(found: list[str], *wanted: str) -> bool:
    """Whether `wanted` stands in `found`, in this order without a gap."""
    size = len(wanted)
    return any(found[at : at + size] == [*wanted] for at in range(len(found)))


def test_the_middleware_is_always_added_beside_the_users_own() -> None:
    for cpu in (True, False):
        added = flags("--middleware", "mine.Middleware", cpu=cpu)
        assert has(added, "--middleware", MIDDLEWARE, "--middleware", DECODING)


def test_a_cpu_runs_eagerly_with_a_bounded_cache_and_a_gpu_as_vllm_says() -> None:
    on_cpu, on_gpu = flags(), flags(cpu=False)
    assert "--enforce-eager" in on_cpu
    assert has(on_cpu, *KV)
    assert "--enforce-eager" not in on_gpu
    assert KV[0] not in on_gpu


@pytest.mark.parametrize(
    "chosen",
    [
        ["--enforce-eager"],
        ["--enforce_eager"],
        ["--no-enforce-eager"],
        ["--compilation-config", "{}"],
        ["--compilation_config={}"],
        ["--compilation-config.mode", "3"],
        ["-cc.mode=3"],
        ["-cc", "{}"],
        ["-O", "2"],
        ["-O2"],
        ["-O=2"],
        ["--optimization-level=2"],
    ],
)
def test_whoever_chose_how_to_compile_is_left_alone(chosen: list[str]) -> None:
    added = flags("--model", "m", *chosen)
    assert "--enforce-eager" not in added
    assert has(added, *KV)


@pytest.mark.parametrize(
    "chosen",
    [
        ["--kv-cache-memory-bytes", "1G"],
        ["--kv_cache_memory_bytes=1G"],
        ["--gpu-memory-utilization", "0.5"],
    ],
)
def test_whoever_chose_a_cache_is_left_alone(chosen: list[str]) -> None:
    added = flags(*chosen)
    assert KV[0] not in added
    assert "--enforce-eager" in added


def test_a_cache_may_be_chosen_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    assert KV[0] not in flags()
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "")  # which vLLM takes for none
    assert has(flags(), *KV)


def test_a_value_that_looks_like_no_flag_is_no_choice() -> None:
    assert "--enforce-eager" in flags("--model", "enforce-eager", "--chat-template", "O2")


def test_the_engine_gets_time_to_exit_unless_the_user_says() -> None:
    assert "--shutdown-timeout" in flags()
    assert "--shutdown-timeout" not in flags("--shutdown-timeout", "9")


def model_folder(folder: Path, template: object) -> list[str]:
    """Flags that name a model folder whose tokenizer has `template`."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return ["--model", str(folder)]


def test_the_chat_template_of_the_tokenizer_is_passed_on(tmp_path: Path) -> None:
    assert has(flags(*model_folder(tmp_path, "{{ x }}")), "--chat-template", "{{ x }}")
    (tmp_path / "chat_template.jinja").write_text("{{ y }}")
    template = str(tmp_path / "chat_template.jinja")
    assert has(flags(f"--model={tmp_path}"), "--chat-template", template)


@pytest.mark.parametrize("template", [None, [{"name": "default", "template": "{{ x }}"}]])
def test_a_tokenizer_without_one_template_is_left_to_vllm(tmp_path: Path, template: object) -> None:
    assert "--chat-template" not in flags(*model_folder(tmp_path, template))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_tokenizer_config_that_is_broken_is_left_to_vllm(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    assert "--chat-template" not in flags("--model", str(tmp_path))


@pytest.mark.parametrize(
    "other", ["processor_config.json", "preprocessor_config.json", "additional_chat_templates"]
)
def test_a_model_that_may_have_another_template_is_left_to_vllm(tmp_path: Path, other: str) -> None:
    (tmp_path / other).touch()
    assert "--chat-template" not in flags(*model_folder(tmp_path, "{{ x }}"))


@pytest.mark.parametrize("chosen", [["--chat-template", "t"], ["--tokenizer", "other"]])
def test_whoever_chose_a_template_or_a_tokenizer_is_left_alone(
    tmp_path: Path, chosen: list[str]
) -> None:
    assert "--chat-template" not in flags(*model_folder(tmp_path, "{{ x }}"), *chosen)


def test_a_model_that_is_no_folder_here_is_left_to_vllm() -> None:
    assert "--chat-template" not in flags("--model", "org/name")
    assert "--chat-template" not in flags()


def test_the_users_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    apply_environment()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"
    for name in ENVIRONMENT.keys() - {"TOKENIZERS_PARALLELISM"}:
        assert os.environ[name] == ENVIRONMENT[name]


@pytest.mark.parametrize(
    ("chosen", "allowed"),
    [
        ("", ["relume"]),
        ("theirs", ["theirs", "relume"]),
        ("theirs,relume", ["theirs", "relume"]),
        ("relume", ["relume"]),
        ("a,,b", ["a", "b", "relume"]),
    ],
)
def test_the_users_choice_of_plugins_is_kept_and_ours_added(
    monkeypatch: pytest.MonkeyPatch, chosen: str, allowed: list[str]
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", chosen)
    apply_environment()
    assert os.environ["VLLM_PLUGINS"].split(",") == allowed


def test_where_nobody_chose_all_that_vllm_would_load_is_named() -> None:
    """Naming one plugin turns all others off; routes of others stay off, as in vLLM."""
    apply_environment()
    named = os.environ["VLLM_PLUGINS"].split(",")
    for group in ("general", "io_processor", "platform", "stat_logger"):
        assert {e.name for e in entry_points(group=f"vllm.{group}_plugins")} <= {*named}
    assert named[-1] == "relume"
    assert len(named) == len({*named})


@pytest.mark.parametrize(
    ("build", "argv", "set_to"),
    [
        ("cpu", [], "1"),
        ("cpu", ["--enforce-eager"], "1"),
        ("cpu", ["--no-enforce-eager"], None),
        ("cpu", ["-O2"], None),
        ("cpu", ["--compilation-config.mode=3"], None),
        ("cpu", ["-O2", "--enforce-eager"], "1"),
        ("cuda", ["--enforce-eager"], None),
    ],
)
def test_a_cpu_server_that_compiles_no_model_compiles_no_function_either(
    monkeypatch: pytest.MonkeyPatch, build: str, argv: list[str], set_to: str | None
) -> None:
    """Else the first request for logprobs waits for a C++ compiler, which an image may not have."""
    monkeypatch.setattr(settings, "version", lambda name: f"0.32.0+{build}")
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    apply_environment(argv)
    assert os.environ.get(NO_COMPILATION) == set_to


def test_a_template_and_its_fork_both_apply_the_environment() -> None:
    apply_environment()
    once = dict(os.environ)
    apply_environment()
    assert dict(os.environ) == once


def test_our_plugin_is_what_vllm_finds_under_our_name() -> None:
    (ours,) = entry_points(group="vllm.endpoint_plugins", name="relume")
    assert ours.value == "relume.runtimes.plugin:RelumeEndpoints"
    module, _, name = MIDDLEWARE.rpartition(".")
    assert (module, name) == ("relume.runtimes.middleware", "CloudEvents")
