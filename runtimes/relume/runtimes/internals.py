"""Where Relume touches vLLM below its public surface; `ahead.py` and `early_core.py` use it.

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
7.  What gives the same in every fork is done once, in the template: the CPU's kernels are put in
    place of Triton's (0.3 s), the loggers are set up (80 ms in each process), installed plugins are
    looked for (10 ms each time). torch notes where an operator is defined without resolving the
    path of every module (0.2 s). The fingerprint of the configuration is computed once for a
    server, and not for each of six routes. Without it: the same, later.
8.  On a CPU the pages of the KV cache are filled after the start (`kv_memory.py`). Without it:
    0.15 s more at each start. vLLM checks its size too, and counts the page cache of its container
    as used, which the weights that it has just read may fill; without it, such a start fails.
9.  On a CPU the engine core loads a tokenizer for the first request with a grammar
    (`grammar_tokenizer.py`). Without it: 0.2 s more at each start.
10. The server looks ten times a second whether its engine has ended, and ends then. vLLM looks
    every 5 s. Without it: a predictor whose engine has ended takes so much longer to be replaced,
    and one whose engine ends late in its start may never end.
"""

import asyncio
import importlib
import importlib.metadata
import logging
import multiprocessing
import os
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from relume.base.free_memory import page_cache
from relume.runtimes import unused
from relume.runtimes.grammar_tokenizer import loaded_when_used
from relume.runtimes.imports import flags_module, server_module
from relume.runtimes.kv_memory import filled_later
from relume.runtimes.phases import Phases, monotonic_ms
from relume.runtimes.settings import with_defaults

logger = logging.getLogger("relume.runtimes")


def speed_up_imports() -> None:
    """Let vLLM's modules be imported with less work; call before the first of them is."""
    if "vllm" not in sys.modules:
        unused.put_off()
    _read_entry_points_once()
    _name_callers_cheaply()


def _read_entry_points_once() -> None:
    """Keep what is installed: vLLM asks for its plugins group by group, each time from the disk."""
    installed = importlib.metadata.entry_points()

    def kept(**chosen: Any) -> Any:
        return installed.select(**chosen)

    importlib.metadata.entry_points = kept


def _name_callers_cheaply() -> None:
    """Let torch note where an operator was registered without a look at the files of all modules.

    `inspect.getframeinfo`, which torch calls for it, resolves the path of each module that was
    imported since the last call: 0.2 s in a start. File and line are in the frame.
    """

    def get_source(stacklevel: int) -> str:
        frame = sys._getframe(stacklevel)
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"

    replace("torch._library.utils", "get_source", lambda _original: get_source)


def set_up_once() -> None:
    """Do what each start does alike, in the template: loggers, kernels."""
    _configure_logging()
    register_kernels_once()


def _configure_logging() -> None:
    """Set up the loggers as vLLM does for a service that chooses nothing about them."""
    try:
        from vllm.config.logging import LoggingConfig

        _configure_logging_if_needed(LoggingConfig())
    except ImportError as error:
        logger.debug("vLLM has no LoggingConfig to apply early (%s)", error)


def register_kernels_once() -> None:
    """Put the CPU's kernels in place of Triton's now, and not again in each fork.

    vLLM does it when a worker starts, and looks at everything in every module for it. Its kernels
    are in its own modules alone, which are a third of all.
    """

    def once(original: Callable[[], None]) -> Callable[[], None]:
        original()
        return staticmethod(lambda: None)

    def among_its_own(original: Callable[..., None]) -> Callable[..., None]:
        def rebind(overrides: Any) -> None:
            own = {name: module for name, module in sys.modules.items() if name.startswith("vllm")}
            original.__globals__["sys"] = SimpleNamespace(modules=own)
            try:
                original(overrides)
            finally:
                original.__globals__["sys"] = sys

        return rebind

    if is_cpu():
        replace("vllm.triton_utils.dispatcher", "_rebind_kernels", among_its_own)
        replace("vllm.platforms.cpu", "CpuPlatform.register_triton_kernel_overrides", once)


def arguments(argv: Sequence[str]) -> Namespace:
    """The user's flags with ours, parsed by vLLM; exits 2 with its message on a wrong one."""
    flags = with_defaults(argv, cpu=is_cpu())
    sys.argv = ["vllm", "serve", *flags]  # vLLM logs the flags that are not its defaults from it
    return parse_flags(flags)


def parse_flags(flags: Sequence[str]) -> Namespace:
    """`vllm serve`'s flags, parsed and checked by vLLM; exits 2 with its message on a wrong one."""
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup

    cli_env_setup()
    args: Namespace = flag_parser().parse_args(list(flags))
    flags_module().validate_parsed_serve_args(args)
    return args


def flag_parser() -> ArgumentParser:
    """vLLM's own parser of `vllm serve`'s flags."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(description="vLLM, run by Relume.")
    made: ArgumentParser = flags_module().make_arg_parser(parser)
    return made


def run_server(listening: socket.socket, args: Namespace) -> Coroutine[Any, Any, None]:
    """vLLM's own server on a socket that listens already."""
    run: Callable[..., Coroutine[Any, Any, None]] = server_module().run_server_worker
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


def device_memory() -> int | None:
    """The bytes of the first device; None where vLLM's platform does not say them.

    On NVIDIA's devices NVML is asked, so that no CUDA context is made before vLLM forks.
    """
    from vllm.platforms import current_platform

    try:
        return int(current_platform.get_device_total_memory())
    except Exception as error:  # noqa: BLE001 - of a driver's library, or no answer at all
        logger.warning("the memory of the device is not known: %s", error)
        return None


def stay_in_process_on_cpu() -> None:
    """Start no second interpreter: fork vLLM's processes, as vLLM itself does on a GPU."""
    context = multiprocessing.get_context("fork")
    for name in ("vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor"):
        replace(name, "get_mp_context", lambda _original: lambda: context)
    # Read by the CPU platform when it chooses the executor: "0" leaves the worker in the engine
    # core's process. The worker's threads are set below, where a spawned one has them from its
    # environment.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    replace("vllm.model_executor.models.registry", "_run_in_subprocess", lambda _: lambda fn: fn())


def set_up_core(phases: Phases, threads: int | None = None) -> None:
    """Prepare what the engine core's process runs; in that process, or before it is forked.

    On a CPU the worker gets `threads` OpenMP threads, by default `worker_threads()`; a number is
    given for a process that will be forked.
    """
    keep_rendezvous_among_sockets()
    time_worker(phases)
    if not is_cpu():
        return
    # A fork has the loggers of its parent: to set up 2,000 of them again takes 80 ms.
    replace("vllm.v1.engine.core", "configure_logging", lambda _: _configure_logging_if_needed)
    register_kernels_once()
    manager = "StructuredOutputManager.__init__"
    replace("vllm.v1.structured_output", manager, loaded_when_used)
    page_cache_is_free()
    filled = filled_later(never=threads is not None)
    replace("vllm.v1.worker.gpu_model_runner", "allocate_kv_cache", filled)
    wanted = worker_threads() if threads is None else threads

    def with_threads(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def init_device(self: Any, *args: Any, **kwargs: Any) -> Any:
            set_threads(wanted)
            return original(self, *args, **kwargs)

        return init_device

    replace("vllm.v1.worker.cpu_worker", "CPUWorker.init_device", with_threads)


def _configure_logging_if_needed(config: Any) -> None:
    from vllm.logger import configure_logging_if_needed

    configure_logging_if_needed(config)


def page_cache_is_free() -> None:
    """Let vLLM count only what the kernel cannot give up as the memory that its container uses."""

    def without_cache(original: Callable[[], int | None]) -> Callable[[], int | None]:
        def used() -> int | None:
            found = original()
            return None if found is None else max(found - page_cache(), 0)

        return wraps(original)(used)

    replace("vllm.utils.cpu_resource_utils", "get_cgroup_memory_usage", without_cache)


def set_threads(count: int) -> None:
    """Set the OpenMP threads of this process; vLLM's worker takes torch's function for it away."""
    global _set_num_threads
    if _set_num_threads is None:
        import torch

        _set_num_threads = torch.set_num_threads
    _set_num_threads(count)


_set_num_threads: Callable[[int], None] | None = None


def keep_rendezvous_among_sockets() -> None:
    """Make the file of torch's FileStore in `VLLM_RPC_BASE_PATH`, where that is set."""
    if not (folder := os.environ.get("VLLM_RPC_BASE_PATH")):
        return

    def among_sockets(_original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda: f"file://{folder}/vllm_dist_{uuid4().hex}"

    for name in ("vllm.v1.executor.uniproc_executor", "vllm.v1.executor.multiproc_executor"):
        replace(name, "get_file_store_init_method", among_sockets)


def time_configuration(phases: Phases) -> None:
    """Record how long the configuration of the engine takes."""
    timed = _timed(phases, "config")
    replace("vllm.engine.arg_utils", "AsyncEngineArgs.create_engine_config", timed)


def time_worker(phases: Phases) -> None:
    """Record weights and warm-up where vLLM does them."""
    worker = "vllm.v1.worker.cpu_worker" if is_cpu() else "vllm.v1.worker.gpu_worker"
    # load_model is inherited: the wrapper goes on the class that the engine instantiates.
    name = "CPUWorker" if is_cpu() else "Worker"
    replace(worker, f"{name}.load_model", _timed(phases, "weights"))
    replace(worker, f"{name}.compile_or_warm_up_model", _timed(phases, "warmup"))


def fingerprint_once() -> None:
    """Let vLLM's server compute the fingerprint of its configuration once, and not per route."""

    def once(original: Callable[..., Any]) -> Callable[..., Any]:
        known: dict[tuple[object, ...], Any] = {}

        @wraps(original)
        def build(config: Any, *args: Any) -> Any:
            if (key := (id(config), *args)) not in known:
                known[key] = original(config, *args)
            return known[key]

        return build

    module = "vllm.entrypoints.serve.utils.fingerprint"
    replace(module, "build_system_fingerprint", once)


def end_with_the_engine() -> None:
    """Let vLLM's server end soon after its engine has."""
    module = "vllm.entrypoints.launchers.launcher"

    def often(original: Callable[..., Any]) -> Callable[..., Any]:
        terminate = sys.modules[module].terminate_if_errored

        async def watch(server: Any, engine: Any) -> None:
            while True:
                await asyncio.sleep(_ENGINE_EVERY_S)
                terminate(server, engine)

        return watch

    replace(module, "watchdog_loop", often)


_ENGINE_EVERY_S = 0.1


def end_a_start_with_the_engine(phases: Phases) -> None:
    """End a server that still starts when its engine has ended.

    It may wait for an answer of the engine, which vLLM leaves open for ever (`utility_results` in
    vllm/v1/engine/core_client.py). One that ends by itself has time to say why.
    """

    def watched(original: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(original)
        def monitor(manager: Any) -> None:  # in a thread of its own
            original(manager)  # returns when an engine has ended
            if phases.state == "loading":
                time.sleep(_SAYS_WHY_WITHIN_S)
            if phases.state == "loading":
                logger.error("EngineCore died while the server was starting")
                os._exit(1)

        return monitor

    replace("vllm.v1.engine.utils", "CoreEngineProcManager.monitor_engine_liveness", watched)


_SAYS_WHY_WITHIN_S = 5.0


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


def worker_threads() -> int:
    """OpenMP threads of the worker: `OMP_NUM_THREADS`, else the cores less one for the server."""
    if (chosen := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        return max(1, int(chosen))
    return max(1, len(os.sched_getaffinity(0)) - 1)


def replace(
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
