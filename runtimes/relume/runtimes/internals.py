"""Every place where Relume touches vLLM below its public surface; nothing else in Relume does.

Each touch is checked against the installed release and skipped with a warning where it does not
fit, so a release that moved something starts vLLM's own way: slower, not broken.

1.  On a CPU the engine core is forked. vLLM's CPU platform forces `spawn`, with which every
    process imports vLLM again (`vllm/platforms/cpu.py`): 6 to 10 s more at each start.
2.  On a CPU with one worker, scheduler and worker share a process. vLLM separates them to set
    OpenMP's environment before the worker starts, which a fork cannot use; the number of threads
    is set in the worker instead. Without it: one more process.
3.  On a CPU a model class is inspected in this process. vLLM starts another interpreter for it, to
    keep CUDA out of this one, and keeps the result in a cache that a new container does not have.
    Without it: 7 to 9 s more at the first start of each kind of model.
4.  Timers around config, weights and warm-up, for which vLLM has no hook. Without them these phases
    count as `engine`.
5.  vLLM's server reads HTTP as our other ports do (`relume.web.protocol`). vLLM has no flag for
    it, so uvicorn's default is ours. Without it: a request that offers an upgrade loses its body.
6.  The file by which workers find each other lies among vLLM's sockets, whose folder a plane
    removes. vLLM makes it in the temporary folder, and leaves it there when the engine is killed,
    as vLLM itself does with one that takes more than 5 s to end.
"""

import gc
import importlib
import logging
import multiprocessing
import os
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Sequence
from functools import partial, wraps
from types import ModuleType
from typing import Any
from uuid import uuid4

from relume.runtimes.phases import Phases, monotonic_ms

logger = logging.getLogger("relume.runtimes")

# Where vLLM's server and its flags live, newest release first.
_SERVER = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
_FLAGS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")

# What engine start-up imports late; a template that has them already forks in less time.
_LATE_IMPORTS = (
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.engine.core_client",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.v1.sample.sampler",
    "vllm.model_executor.models.llama",
    "vllm.model_executor.models.bert",
    "vllm.model_executor.model_loader.default_loader",
    "vllm.entrypoints.generate.api_router",
    "vllm.entrypoints.pooling.factories",
    "vllm.tokenizers.hf",
    "vllm.renderers.hf",
    "transformers.models.llama.tokenization_llama",
    "transformers.models.llama.configuration_llama",
    "transformers.models.auto.tokenization_auto",
)


def import_engine(*, late: bool) -> None:
    """Import vLLM's server; `late`: also what engine start-up would import (for a template).

    The garbage collector is off meanwhile: an import makes half a million objects that stay, and
    walking them again and again takes a fifth of the time. Afterwards they are frozen, so neither
    vLLM's own collections nor a fork touches them again.
    """
    gc.disable()
    try:
        _import_all(late=late)
        if late:
            gc.collect()
        gc.freeze()
    finally:
        gc.enable()


def _import_all(*, late: bool) -> None:
    _first_module(_SERVER)
    _first_module(_FLAGS)
    if not late:
        return
    for name in _LATE_IMPORTS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            logger.debug("not in this vLLM release: %s (%s)", name, error)
    from vllm.platforms import current_platform

    current_platform.import_kernels()


def parse_flags(flags: Sequence[str]) -> Namespace:
    """`vllm serve`'s flags, parsed and checked by vLLM; exits 2 with its message on a wrong one."""
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

    cli_env_setup()
    args: Namespace = flag_parser().parse_args(list(flags))
    _first_module(_FLAGS).validate_parsed_serve_args(args)
    return args


def flag_parser() -> ArgumentParser:
    """vLLM's own parser of `vllm serve`'s flags."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(description="vLLM, run by Relume.")
    made: ArgumentParser = _first_module(_FLAGS).make_arg_parser(parser)
    return made


def run_server(listening: socket.socket, args: Namespace) -> Coroutine[Any, Any, None]:
    """vLLM's own server on a socket that listens already."""
    run: Callable[..., Coroutine[Any, Any, None]] = _first_module(_SERVER).run_server_worker
    return run("the port that is open since the start", listening, args)


def read_http_as_we_do() -> None:
    """Make our protocol uvicorn's default; call before vLLM's server is configured."""
    try:
        from uvicorn.config import HTTP_PROTOCOLS
    except ImportError as error:
        logger.warning("uvicorn has no table of protocols (%s); using its own", error)
        return
    HTTP_PROTOCOLS["auto"] = "relume.web.protocol:HttpProtocol"


def is_cpu() -> bool:
    """Whether vLLM runs on the CPU here."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def stay_in_process_on_cpu() -> None:
    """Start no second interpreter: fork vLLM's processes, as vLLM itself does on a GPU."""
    context = multiprocessing.get_context("fork")
    for name in ("vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor"):
        _replace(name, "get_mp_context", lambda _original: lambda: context)
    # Read by the CPU platform when it chooses the executor: "0" leaves the worker in the engine
    # core's process. The worker's threads are set below, where a spawned one has them from its
    # environment.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    _replace("vllm.model_executor.models.registry", "_run_in_subprocess", lambda _: lambda fn: fn())
    threads = _worker_threads()

    def set_threads(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def init_device(self: Any, *args: Any, **kwargs: Any) -> Any:
            import torch

            torch.set_num_threads(threads)
            return original(self, *args, **kwargs)

        return init_device

    _replace("vllm.v1.worker.cpu_worker", "CPUWorker.init_device", set_threads)


def keep_rendezvous_among_sockets() -> None:
    """Make the file of torch's FileStore in `VLLM_RPC_BASE_PATH`, where somebody has chosen that.

    Call before the engine is forked.
    """
    if not (folder := os.environ.get("VLLM_RPC_BASE_PATH")):
        return

    def among_sockets(_original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: f"file://{folder}/vllm_dist_{uuid4().hex}"

    for name in ("vllm.v1.executor.uniproc_executor", "vllm.v1.executor.multiproc_executor"):
        _replace(name, "get_file_store_init_method", among_sockets)


def time_phases(phases: Phases) -> None:
    """Record config, weights and warm-up where vLLM does them; call before the engine is forked."""
    worker = "vllm.v1.worker.cpu_worker" if is_cpu() else "vllm.v1.worker.gpu_worker"
    # load_model is inherited: the wrapper goes on the class that the engine instantiates.
    name = "CPUWorker" if is_cpu() else "Worker"
    timed = partial(_timed, phases)
    _replace("vllm.engine.arg_utils", "AsyncEngineArgs.create_engine_config", timed("config"))
    _replace(worker, f"{name}.load_model", timed("weights"))
    _replace(worker, f"{name}.compile_or_warm_up_model", timed("warmup"))


def _timed(phases: Phases, phase: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            phases.enter(phase)
            started = monotonic_ms()
            result = original(*args, **kwargs)
            phases.record(phase, monotonic_ms() - started)
            phases.enter("engine")
            return result

        return timed

    return wrap


def _first_module(names: Sequence[str]) -> ModuleType:
    """The first of `names` that the installed release has."""
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or "?"):
                raise
    return importlib.import_module(names[-1])


def _worker_threads() -> int:
    """OpenMP threads of the worker: `OMP_NUM_THREADS`, else the cores less one for the server."""
    if (chosen := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(chosen))
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _replace(
    module: str, path: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace `module.path` by `wrap(its value)`; warn and leave it where it does not exist."""
    try:
        owner: Any = importlib.import_module(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, wrap(getattr(owner, name)))
    except (ImportError, AttributeError) as error:
        logger.warning("vLLM has no %s.%s (%s); starting its own way", module, path, error)
