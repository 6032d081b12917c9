"""What of vLLM's start is done before vLLM asks for it: beside the server, or in a model template.

vLLM builds its server step by step: configuration, tokenizer, engine core (a fork that reads the
weights), routes. `AHEAD` holds what of that is done already, and vLLM takes it from there:

* In any predictor, the engine core is forked before the configuration is known (`early_core.py`).
  It reads the weights while this process loads the tokenizer and builds the routes.
* In a model template (`load`), all of it is built in a process that answers no request. A predictor
  is a fork of it, and the engine core that vLLM forks there has the weights already, copy on write.

Both are for one text model on one CPU worker. Everything else starts in vLLM's own order, and so
does a vLLM release whose functions are not the ones that are replaced here (`fits`).
"""

import asyncio
import inspect
import logging
import random
import socket
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from relume.base.errors import RelumeError
from relume.runtimes import imports, internals
from relume.runtimes.early_core import LOG_STATS, EarlyContext, EarlyCore, made_core
from relume.runtimes.kv_memory import check
from relume.runtimes.phases import PROCESS
from relume.runtimes.settings import compiles

logger = logging.getLogger("relume.runtimes")

_CORE_ARGUMENTS = (
    *("self", "vllm_config", "executor_class", "log_stats"),
    *("executor_fail_callback", "include_finished_set"),
)


class NotLoadable(RelumeError):
    """No template can be made of this model: it starts in vLLM's own way only."""

    reason = "not-loadable"


class Ahead:
    """What is done already in this process or was inherited from its template, each taken once."""

    def __init__(self) -> None:
        self.args: Namespace | None = None
        self.config: Any = None
        self.renderer: Any = None
        self.core: Any = None  # an EngineCore, or what was raised when it was made
        self.app: Any = None
        self.tasks: tuple[str, ...] = ()
        self.early: EarlyCore | None = None
        self.is_loaded = False
        self._installed = False

    def start_core(self) -> None:
        """Fork the engine core, which imports what it needs while this process goes on."""
        if not self.is_loaded and internals.is_cpu():
            self.early = EarlyCore(self.take_core)

    def prepare(self, args: Namespace) -> None:
        """Make the configuration of `args` and give it to the engine core that was started.

        Where the engine cannot start early, vLLM starts its own way.
        """
        self.args = args
        if self.early is not None:
            config = _engine_config(args)
            if _is_simple(config) and self.early.load(config) and self.install():
                self.config = config
                return
            self.end_core()
        internals.set_up_core(PROCESS)

    def end_core(self) -> None:
        """End an engine core that vLLM has not taken; Python would wait for it at its exit."""
        if self.early is not None:
            self.early.kill()
            self.early = None

    def take_core(self, core: Any) -> None:
        """Let vLLM's engine core be `core`, an EngineCore or what was raised when it was made."""
        self.core = core
        internals.replace("vllm.v1.engine.core", "EngineCore.__init__", self._core_made)

    def install(self) -> bool:
        """Let vLLM take what is done already; False, and nothing is changed, where it cannot."""
        if not self._installed and internals.is_cpu() and fits():
            self._installed = True
            for module, path, wrap in (
                ("vllm.engine.arg_utils", "AsyncEngineArgs.create_engine_config", self._configured),
                ("vllm.v1.engine.async_llm", "renderer_from_config", self._rendered),
                ("vllm.v1.engine.utils", "get_mp_context", self._context),
                ("vllm.v1.engine.core", "EngineCore.__init__", self._core_made),
                ("vllm.v1.engine.core_client", "EngineCoreClient.make_async_mp_client", self._app),
                (imports.server_module().__name__, "build_app", self._app_built),
            ):
                internals.replace(module, path, wrap)
        return self._installed

    # What vLLM calls instead of its own functions.

    def _configured(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def create_engine_config(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs) if self.config is None else self.config

        return create_engine_config

    def _rendered(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def renderer_from_config(*args: Any, **kwargs: Any) -> Any:
            return self.renderer or original(*args, **kwargs)

        return renderer_from_config

    def _context(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def take() -> EarlyCore | None:
            early, self.early = self.early, None
            return early

        return wraps(original)(lambda: EarlyContext(original(), take))

    def _core_made(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def init(
            core: Any,
            vllm_config: Any,
            executor_class: Any,
            log_stats: bool,
            executor_fail_callback: Callable[[], None] | None = None,
            include_finished_set: bool = False,
        ) -> None:
            made, self.core = self.core, None
            if isinstance(made, BaseException):
                raise made
            rest = (log_stats, executor_fail_callback, include_finished_set)
            if made is None or log_stats != LOG_STATS or include_finished_set:
                original(core, vllm_config, executor_class, *rest)
            else:
                _adopt(core, made, executor_fail_callback)
                if self.is_loaded:
                    made.vllm_config.instance_id = vllm_config.instance_id
                    _settle_in_fork(made)

        return init

    def _app(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def make_async_mp_client(*args: Any, **kwargs: Any) -> Any:
            if self.early is not None and self.app is None:
                self.build_app(self.early.config.model_config, _expected_tasks(self.early.config))
            return original(*args, **kwargs)

        return staticmethod(make_async_mp_client)

    def _app_built(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def build_app(args: Namespace, tasks: Any = None, model_config: Any = None) -> Any:
            app, self.app = self.app, None
            if app is None or args is not self.args or tuple(tasks or ()) != self.tasks:
                return original(args, tasks, model_config)
            PROCESS.engine_answers()  # our plugin said so when the routes were built
            return app

        return build_app

    def build_app(self, model_config: Any, tasks: tuple[str, ...]) -> None:
        if tasks and self.args is not None:
            self.tasks = tasks
            self.app = imports.server_module().build_app(self.args, tasks, model_config)


AHEAD = Ahead()


def fits() -> bool:
    """Whether the installed vLLM has what is replaced here; says what is missing where not."""
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine import async_llm, utils
        from vllm.v1.engine.core import EngineCore, EngineCoreProc
        from vllm.v1.engine.core_client import EngineCoreClient

        found = tuple(inspect.signature(EngineCore.__init__).parameters)
        _ = (AsyncEngineArgs.create_engine_config, async_llm.renderer_from_config)
        _ = (utils.get_mp_context, EngineCoreProc.run_engine_core)
        _ = (EngineCoreClient.make_async_mp_client, imports.server_module().build_app)
    except (ImportError, AttributeError) as error:
        logger.warning("vLLM lacks what an early engine needs (%s); starting its own way", error)
        return False
    if found != _CORE_ARGUMENTS:
        logger.warning("vLLM's EngineCore takes %s; starting its own way", ", ".join(found))
        return False
    return True


def load(argv: Sequence[str]) -> None:
    """Build all that `vllm serve` with the flags `argv` builds, and end the threads of it.

    `AHEAD` holds it for the predictors that are forked from this process. Raises NotLoadable where
    vLLM cannot be loaded so, and what vLLM raises where the model cannot.
    """
    from vllm.v1.engine.async_llm import renderer_from_config

    if compiles(argv):
        raise NotLoadable("a template compiles nothing, and the flags of this model want it")
    args = internals.arguments(argv)
    internals.stay_in_process_on_cpu()
    # With one thread there is no pool of them, which a fork would believe to have.
    internals.set_up_core(PROCESS, threads=1)
    if not AHEAD.install():
        raise NotLoadable("the engine of this vLLM cannot be loaded before it is forked")
    AHEAD.is_loaded = True
    import tqdm  # type: ignore[import-untyped]

    tqdm.tqdm.monitor_interval = 0  # its thread would be alive at the fork
    # Two, because the engine core and the server write into theirs, each its own.
    config, core_config = (_engine_config(args) for _ in range(2))
    if not _is_simple(config):
        raise NotLoadable("only one text model on one CPU worker can be loaded before it is forked")
    AHEAD.renderer = renderer_from_config(config)
    core = made_core(core_config)
    if isinstance(core, BaseException):
        raise core
    AHEAD.args, AHEAD.config = args, config
    AHEAD.build_app(config.model_config, tuple(core.get_supported_tasks()))
    AHEAD.core = core
    getattr(core.structured_output_manager, "tokenizer", None)  # each fork has it then
    _fill_caches()
    internals.fingerprint_once()
    _end_threads()


def arguments_on(listening: socket.socket) -> Namespace:
    """The arguments that were loaded, for a server on `listening`; for a fork of a template."""
    assert AHEAD.args is not None
    if listening.family != socket.AF_UNIX:
        AHEAD.args.host, AHEAD.args.port = listening.getsockname()[:2]
    AHEAD.config.instance_id = f"{random.SystemRandom().getrandbits(20):05x}"
    random.seed()  # loading a model sets it to the same number for all
    return AHEAD.args


def _engine_config(args: Namespace) -> Any:
    """The configuration of vLLM's engine, as its server makes it."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    engine = AsyncEngineArgs.from_cli_args(args)
    return engine.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)


def _is_simple(config: Any) -> bool:
    """Whether one process runs the whole engine of one text model."""
    from vllm.v1.executor import Executor
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    parallel = config.parallel_config
    return (
        parallel.world_size == 1
        and parallel.data_parallel_size == 1
        and config.model_config.multimodal_config is None
        and config.kv_transfer_config is None
        and Executor.get_class(config) is UniProcExecutor
    )


def _expected_tasks(config: Any) -> tuple[str, ...]:
    """The tasks of a model that generates text; of others only the loaded model can tell."""
    model = config.model_config
    generates = model.runner_type == "generate" and not model.registry.is_transcription_model(
        model.architectures, model
    )
    return ("generate",) if generates else ()


def _adopt(core: Any, made: Any, callback: Callable[[], None] | None) -> None:
    """Give `core`, vLLM's engine core with its sockets, what `made` has loaded."""
    vars(core).update(vars(made))
    if callback is not None:
        core.model_executor.register_failure_callback(callback)
    core.step_fn = core.step if core.batch_queue is None else core.step_with_batch_queue


class _NoEngine:
    """What the routes' objects read of an engine when they are made."""

    def __init__(self) -> None:
        self.vllm_config = AHEAD.config
        self.model_config = AHEAD.config.model_config
        self.renderer = AHEAD.renderer
        self.input_processor = None

    async def get_supported_tasks(self) -> tuple[str, ...]:
        return AHEAD.tasks


def _fill_caches() -> None:
    """Make the objects behind the routes once, for what they leave in caches: chat templates."""
    from starlette.datastructures import State

    try:
        asyncio.run(
            imports.server_module().init_app_state(_NoEngine(), State(), AHEAD.args, AHEAD.tasks)
        )
    except Exception as error:  # noqa: BLE001 - each predictor does it again, with its engine
        logger.debug("the routes' state cannot be made without an engine: %s", error)


def _end_threads() -> None:
    """End the threads of vLLM's process groups: a fork would not have them, only their locks."""
    from vllm.distributed.parallel_state import (
        destroy_distributed_environment,
        destroy_model_parallel,
    )

    destroy_model_parallel()
    destroy_distributed_environment()


def _settle_in_fork(core: Any) -> None:
    """What the engine core must have for itself: its threads, process groups and random numbers.

    Raises MemoryError where the pages of its KV cache could not be had.
    """
    from vllm.config import set_current_vllm_config
    from vllm.platforms import current_platform
    from vllm.utils.torch_utils import set_random_seed
    from vllm.v1.executor import uniproc_executor
    from vllm.v1.worker.gpu_worker import init_worker_distributed_environment

    check(sum(size for _, size in kv_cache(core))).close()
    internals.set_threads(internals.worker_threads())
    worker = core.model_executor.driver_worker.worker
    config = core.vllm_config
    with set_current_vllm_config(config):
        init_worker_distributed_environment(
            config,
            worker.rank,
            # As its executor sees it: a file among the sockets (`keep_rendezvous_among_sockets`).
            uniproc_executor.get_file_store_init_method(),
            worker.local_rank,
            current_platform.dist_backend,
        )
    set_random_seed(config.model_config.seed)


def kv_cache(core: Any) -> Sequence[tuple[int, int]]:
    """Address and bytes of an engine's KV cache; zeros, until a request is answered."""
    runner = core.model_executor.driver_worker.worker.model_runner
    storages = [cache.untyped_storage() for cache in runner.kv_caches]
    return sorted({(storage.data_ptr(), storage.nbytes()) for storage in storages})
