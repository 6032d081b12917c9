"""The engine core's process, forked before the configuration of its engine is known.

    this process                              the engine core
    fork                                      imports the engine's modules
    imports the flags, parses them
    makes the configuration  ── it ────────▶  loads the model
    imports the server, builds the routes
    vLLM starts its core     ── how ───────▶  serves

Two cores are busy where one was. The configuration comes as it comes to a process that vLLM itself
spawns: pickled, together with the environment.
"""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from relume.runtimes import imports, internals
from relume.runtimes.phases import PROCESS

logger = logging.getLogger("relume.runtimes")

# Our stat logger is always among vLLM's loggers, and with it vLLM keeps statistics.
LOG_STATS = True


class EarlyCore:
    """The engine core's process, which loads already and waits for vLLM's word how to serve."""

    def __init__(self, take: Callable[[Any], None]) -> None:
        """take: called in that process with what `made_core` gave, before vLLM makes its core."""
        self.config: Any = None
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(
            target=_run, name="EngineCore", args=(take, self._ours, theirs)
        )
        sys.stdout.flush()
        self.process.start()
        theirs.close()

    def load(self, config: Any) -> bool:
        """Let it load the model of `config`; False where the configuration cannot be sent."""
        try:
            self._ours.send((config, dict(os.environ)))
        except Exception as error:  # noqa: BLE001 - whatever an object of the user's raises
            logger.warning("the engine's configuration cannot be sent (%s); starting late", error)
            return False
        self.config = config
        return True

    def serve(self, kwargs: Mapping[str, Any]) -> None:
        """Tell it what vLLM's `run_engine_core` is called with, apart from the configuration."""
        self._ours.send({k: v for k, v in kwargs.items() if k != "vllm_config"})
        self._ours.close()

    def kill(self) -> None:
        """End it, where vLLM starts another one."""
        self.process.kill()
        self._ours.close()


def _run(take: Callable[[Any], None], ours: Connection, theirs: Connection) -> None:
    """The life of an engine core that was forked early."""
    ours.close()
    imports.import_core()
    internals.set_up_core(PROCESS)
    try:
        config, environment = theirs.recv()
        os.environ.update(environment)
        take(made_core(config))
        kwargs = theirs.recv()
    except EOFError:  # the server ended before it had a use for this process
        return
    theirs.close()
    from vllm.v1.engine.core import EngineCoreProc

    EngineCoreProc.run_engine_core(vllm_config=config, **kwargs)


def made_core(config: Any) -> Any:
    """vLLM's engine core for `config`, or what it raised."""
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.executor import Executor

    try:
        return EngineCore(config, Executor.get_class(config), LOG_STATS)
    except Exception as error:  # noqa: BLE001 - raised again where vLLM makes the core
        return error


class _Started:
    """vLLM's view of an engine core that runs already: `start` tells it to serve."""

    def __init__(self, early: EarlyCore, kwargs: Mapping[str, Any]) -> None:
        self._early = early
        self._kwargs = kwargs

    def start(self) -> None:
        try:
            self._early.serve(self._kwargs)
        except OSError:  # in the words in which vLLM tells it, by which the plane knows it
            raise RuntimeError("EngineCore died while it loaded the model") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._early.process, name)


class EarlyContext:
    """A multiprocessing context whose first process is the engine core that runs already."""

    def __init__(self, context: Any, early: Callable[[], EarlyCore | None]) -> None:
        """early: gives the core that runs already, once."""
        self._context = context
        self._early = early

    def Process(self, **described: Any) -> Any:  # noqa: N802 - multiprocessing's name
        kwargs = described.get("kwargs") or {}
        if (early := self._early()) is not None:
            if kwargs.get("vllm_config") is early.config and kwargs.get("tensor_queue") is None:
                return _Started(early, kwargs)
            early.kill()
        return self._context.Process(**described)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
