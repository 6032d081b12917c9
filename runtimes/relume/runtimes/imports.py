"""What of vLLM is imported when: imports are most of a fresh start, and of a template's memory.

A fresh start imports the configuration first. The engine core is forked then, and imports its own
modules while this process imports the flags, makes the configuration and imports the server: two
cores are busy where one was. A template imports all of it before its first fork.
"""

import gc
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from relume.runtimes import unused
from relume.runtimes.settings import NO_COMPILATION

logger = logging.getLogger("relume.runtimes")

_COMPILER = "torch._inductor.lowering"
_CONFIGURATION = "vllm.engine.arg_utils"
# Where vLLM's server and its flags live, newest release first.
_SERVER = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
_FLAGS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")

# What an engine core would import while it loads a model.
_CORE = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.distributed.elastic_ep.elastic_execute",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.model_executor.layers.quantization.compressed_tensors.utils",
    "vllm.v1.pool.flash_maxsim",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.sample.sampler",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.bert",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.v1.metrics.reader",
    "multiprocessing.popen_fork",
    "setproctitle",
    "vllm.tokenizers.hf",
    "transformers.models.llama.tokenization_llama",
    "transformers.models.llama.configuration_llama",
    "transformers.models.auto.tokenization_auto",
)
# What a server would import while it builds its routes.
_ROUTES = (
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core_client",
    "vllm.plugins.lora_resolvers.filesystem_resolver",
    "vllm.plugins.lora_resolvers.hf_hub_resolver",
    "vllm.entrypoints.generate.api_router",
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.cohere.api_router",
    "vllm.entrypoints.generate.generative_scoring.api_router",
    "vllm.entrypoints.generate.structured_decisions.api_router",
    "vllm.entrypoints.openai.chat_completion.api_router",
    "vllm.entrypoints.openai.chat_completion.batch_serving",
    "vllm.entrypoints.openai.completion.api_router",
    "vllm.entrypoints.openai.models.api_router",
    "vllm.entrypoints.openai.responses.api_router",
    "vllm.entrypoints.scale_out.factories",
    "vllm.entrypoints.scale_out.derender.api_router",
    "vllm.entrypoints.scale_out.render.api_router",
    "vllm.entrypoints.scale_out.token_in_token_out.api_router",
    "vllm.entrypoints.serve.elastic_ep.api_router",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.entrypoints.serve.instrumentator.offline_docs",
    "vllm.entrypoints.serve.lora.api_router",
    "vllm.entrypoints.serve.profile.api_router",
    "vllm.entrypoints.serve.sagemaker.api_router",
    "vllm.entrypoints.serve.tokenize.api_router",
    "vllm.entrypoints.serve.utils.fingerprint",
    "vllm.entrypoints.serve.utils.orca_metrics",
    "vllm.entrypoints.serve.utils.sse_keep_alive",
    "model_hosting_container_standards.sagemaker",
    "prometheus_fastapi_instrumentator",
    # Of ours, what vLLM loads by name; and what its middleware imports, which itself reads the
    # environment of its service.
    "relume.runtimes.drain",
    "relume.runtimes.first_token",
    "relume.cloudevents.asgi",
    "relume.cloudevents.http",
    "relume.eventing.producer_headers",
    "relume.runtimes.replies",
    "relume.runtimes.openai_prefix",
    "relume.runtimes.own_answers",
    "relume.runtimes.plugin",
    "relume.web.bodies",
    "relume.web.protocol",
    "vllm.entrypoints.pooling.factories",
    "vllm.renderers.hf",
)


def import_configuration() -> None:
    """Import what an engine's configuration is made of; the rest of vLLM needs it too."""
    with _without_collector():
        if os.environ.get(NO_COMPILATION) == "1":
            _leave_out_the_compiler()
        with unused.read_models_once():
            importlib.import_module(_CONFIGURATION)


def flags_module() -> ModuleType:
    """The module of `vllm serve`'s flags."""
    with _without_collector():
        return _first_module(_FLAGS)


def server_module() -> ModuleType:
    """The module of vLLM's server, from which it takes `build_app`."""
    with _without_collector():
        return _first_module(_SERVER)


def import_core() -> None:
    """Import what an engine core needs, and the kernels of its platform."""
    with _without_collector():
        _import(_CORE)
        from vllm.platforms import current_platform

        current_platform.import_kernels()


def import_all() -> None:
    """Import all that a start would import, for a template."""
    import_configuration()
    server_module()
    flags_module()
    with _without_collector():
        _import(_ROUTES)
    import_core()


def _import(names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            logger.debug("not in this vLLM release: %s (%s)", name, error)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn the garbage collector off meanwhile, and freeze what was made.

    An import makes half a million objects that stay, and walking them again and again takes a fifth
    of the time. Once frozen, neither vLLM's own collections nor a fork touches them again.
    """
    if not gc.isenabled():  # an outer one does it
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _leave_out_the_compiler() -> None:
    """Import vLLM without torch's compiler, which it only corrects at its import: 0.7 s.

    vLLM goes on without it where it cannot be imported (`vllm/env_override.py`). Nothing uses it
    where nothing is compiled.
    """
    if _COMPILER in sys.modules:
        return
    unused.put_off_compiler()
    import torch._inductor  # noqa: F401 - without it the module below has no package

    # So Python marks a module whose import has to fail.
    sys.modules[_COMPILER] = None  # type: ignore[assignment]
    try:
        importlib.import_module("vllm")
    finally:
        del sys.modules[_COMPILER]


def _first_module(names: Sequence[str]) -> ModuleType:
    """The first of `names` that the installed release has."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or "?"):
                raise
    return importlib.import_module(names[-1])
